import { Sql } from './handle.ts'

export interface AuditRecord {
  /** A UUIDv7, so that records sort by time. */
  id: string
  teamId: string
  at: number
  /** `user:<id>`, `credential:<id>` or `server`. */
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
