import type { PageQuery } from '@cyberun/api'
import { Sql } from './handle.ts'
import { pageBounds } from './page.ts'

export interface AuditRecord {
  /** A UUIDv7, so that records sort by time. */
  id: string
  teamId: string
  at: number
  /** `user:<id>`, `credential:<id>`, `tunnel:<session id>` (who showed its admin token) or `server`. */
  actor: string
  /** A dotted event name: `tunnel.opened`. */
  action: string
  /** The id of what was acted upon. */
  subject: string
  /** Further facts; never a secret. */
  detail: Record<string, string | number | boolean | null>
}

/** Adds a record; inside a transaction it stands or falls with what it records. */
export async function appendAudit(sql: Sql, record: AuditRecord): Promise<void> {
  await Sql.db(sql)
    .insertInto('audit_record')
    .values({
      id: record.id,
      team_id: record.teamId,
      at: record.at,
      actor: record.actor,
      action: record.action,
      subject: record.subject,
      detail: JSON.stringify(record.detail),
    })
    .execute()
}

/** The records of a team, of one action when it is named, newest first. */
export async function listAuditRecords(
  sql: Sql,
  teamId: string,
  action: string | undefined,
  page: PageQuery,
): Promise<AuditRecord[]> {
  const { limit, offset } = pageBounds(page)
  let query = Sql.db(sql)
    .selectFrom('audit_record')
    .select(['id', 'team_id as teamId', 'at', 'actor', 'action', 'subject', 'detail'])
    .where('team_id', '=', teamId)
  if (action !== undefined) query = query.where('action', '=', action)
  const rows = await query.orderBy('id', 'desc').limit(limit).offset(offset).execute()
  return rows.map((row) => ({ ...row, detail: JSON.parse(row.detail) as AuditRecord['detail'] }))
}

export async function countAuditRecords(sql: Sql, teamId: string, action: string | undefined): Promise<number> {
  let query = Sql.db(sql)
    .selectFrom('audit_record')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('team_id', '=', teamId)
  if (action !== undefined) query = query.where('action', '=', action)
  return (await query.executeTakeFirstOrThrow()).count
}
