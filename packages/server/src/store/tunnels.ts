import type { HostPolicy, PathMode, Role, TunnelProfile, TunnelProtocol } from '@cyberun/api'
import { ROLES, TUNNEL_PROFILES } from '@cyberun/api'
import { mayWork } from '../model/roles.ts'
import { Sql } from './handle.ts'

export interface TunnelRecord {
  sessionId: string
  teamId: string
  agentId: string
  targetPort: number
  protocol: TunnelProtocol
  /** SHA-256 of the token, hex. */
  tokenHash: string
  tokenSealed: string
  adminTokenHash: string
  openedByUserId: string
  openedByCredentialId: string | null
  openedByFamilyId: string | null
  taskId: string | null
  openedAt: number
  lastActivityAt: number
  idleTimeoutMs: number
  bytesIn: number
  bytesOut: number
  profile: TunnelProfile
  hostPolicy: HostPolicy
  pathMode: PathMode
  /** First label of the tunnel's own host: 128 random bits, hex. Never given to another tunnel. */
  label: string
  /** The port door's port, when it has one. */
  edgePort: number | null
}

/** What a tunnel is reached with, as of now; all of it is replaced at once when it is revoked. */
export type TunnelSecrets = Pick<TunnelRecord, 'tokenHash' | 'tokenSealed' | 'adminTokenHash' | 'label'>

/** How much a tunnel was used, as of now. */
export interface TunnelUse {
  sessionId: string
  lastActivityAt: number
  bytesIn: number
  bytesOut: number
}

export async function insertTunnel(sql: Sql, tunnel: TunnelRecord): Promise<void> {
  await Sql.db(sql)
    .insertInto('tunnel')
    .values({
      session_id: tunnel.sessionId,
      team_id: tunnel.teamId,
      agent_id: tunnel.agentId,
      target_port: tunnel.targetPort,
      tunnel_protocol: tunnel.protocol,
      token_hash: tunnel.tokenHash,
      token_sealed: tunnel.tokenSealed,
      admin_token_hash: tunnel.adminTokenHash,
      opened_by_user_id: tunnel.openedByUserId,
      opened_by_credential_id: tunnel.openedByCredentialId,
      opened_by_family_id: tunnel.openedByFamilyId,
      task_id: tunnel.taskId,
      opened_at: tunnel.openedAt,
      last_activity_at: tunnel.lastActivityAt,
      idle_timeout_ms: tunnel.idleTimeoutMs,
      bytes_in: tunnel.bytesIn,
      bytes_out: tunnel.bytesOut,
      closed_at: null,
      profile: tunnel.profile,
      host_policy: tunnel.hostPolicy,
      path_mode: tunnel.pathMode,
      label: tunnel.label,
      edge_port: tunnel.edgePort,
    })
    .execute()
}

/** The port of the port door that was given last, whether or not its tunnel is still open. */
export async function lastEdgePort(sql: Sql): Promise<number | undefined> {
  const row = await Sql.db(sql)
    .selectFrom('tunnel')
    .select('edge_port')
    .where('edge_port', 'is not', null)
    .orderBy('opened_at', 'desc')
    .limit(1)
    .executeTakeFirst()
  return row?.edge_port ?? undefined
}

/** Every tunnel that was not closed, oldest first. */
export async function listOpenTunnels(sql: Sql): Promise<TunnelRecord[]> {
  const rows = await Sql.db(sql)
    .selectFrom('tunnel')
    .selectAll()
    .where('closed_at', 'is', null)
    .orderBy('opened_at')
    .execute()
  return rows.map((row) => ({
    sessionId: row.session_id,
    teamId: row.team_id,
    agentId: row.agent_id,
    targetPort: row.target_port,
    protocol: row.tunnel_protocol === 'tcp' ? 'tcp' : 'http',
    tokenHash: row.token_hash,
    tokenSealed: row.token_sealed,
    adminTokenHash: row.admin_token_hash,
    openedByUserId: row.opened_by_user_id,
    openedByCredentialId: row.opened_by_credential_id,
    openedByFamilyId: row.opened_by_family_id,
    taskId: row.task_id,
    openedAt: row.opened_at,
    lastActivityAt: row.last_activity_at,
    idleTimeoutMs: row.idle_timeout_ms,
    bytesIn: row.bytes_in,
    bytesOut: row.bytes_out,
    profile: TUNNEL_PROFILES.find((known) => known === row.profile) ?? 'generic',
    hostPolicy: row.host_policy === 'preserve' ? 'preserve' : 'rewrite',
    pathMode: row.path_mode === 'keep' ? 'keep' : 'strip',
    label: row.label,
    edgePort: row.edge_port,
  }))
}

/**
 * Replaces what an open tunnel is reached with, if its token is still the one with this hash. False when it is not, or
 * the tunnel is closed or gone with its team.
 */
export async function replaceTunnelSecrets(
  sql: Sql,
  sessionId: string,
  tokenHash: string,
  secrets: TunnelSecrets,
): Promise<boolean> {
  const result = await Sql.db(sql)
    .updateTable('tunnel')
    .set({
      token_hash: secrets.tokenHash,
      token_sealed: secrets.tokenSealed,
      admin_token_hash: secrets.adminTokenHash,
      label: secrets.label,
    })
    .where('session_id', '=', sessionId)
    .where('token_hash', '=', tokenHash)
    .where('closed_at', 'is', null)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Sets when an open tunnel was last used and how long it may go unused. False when it is closed. */
export async function extendTunnel(
  sql: Sql,
  sessionId: string,
  { lastActivityAt, idleTimeoutMs }: Pick<TunnelRecord, 'lastActivityAt' | 'idleTimeoutMs'>,
): Promise<boolean> {
  const result = await Sql.db(sql)
    .updateTable('tunnel')
    .set({ last_activity_at: lastActivityAt, idle_timeout_ms: idleTimeoutMs })
    .where('session_id', '=', sessionId)
    .where('closed_at', 'is', null)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Closes a tunnel with its last figures. False when it was closed before, or went with its team. */
export async function closeTunnel(sql: Sql, use: TunnelUse, closedAt: number): Promise<boolean> {
  const result = await Sql.db(sql)
    .updateTable('tunnel')
    .set({ ...useColumns(use), closed_at: closedAt })
    .where('session_id', '=', use.sessionId)
    .where('closed_at', 'is', null)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

export async function noteTunnelUse(sql: Sql, use: TunnelUse): Promise<void> {
  await Sql.db(sql)
    .updateTable('tunnel')
    .set(useColumns(use))
    .where('session_id', '=', use.sessionId)
    .where('closed_at', 'is', null)
    .execute()
}

const WORKING_ROLES: readonly Role[] = ROLES.filter(mayWork)

/**
 * The open tunnels that may stay open: whoever opened them still has the key or the sign-in they did it with and a role
 * that may, and the agent's key is good. One statement, so that every way of losing a right is seen in one place.
 */
export async function tunnelsInForce(sql: Sql, now: number): Promise<Set<string>> {
  const rows = await Sql.db(sql)
    .selectFrom('tunnel')
    .innerJoin('membership', (join) =>
      join
        .onRef('membership.team_id', '=', 'tunnel.team_id')
        .onRef('membership.user_id', '=', 'tunnel.opened_by_user_id')
        .on('membership.role', 'in', [...WORKING_ROLES]),
    )
    .innerJoin('agent', (join) =>
      join.onRef('agent.team_id', '=', 'tunnel.team_id').onRef('agent.agent_id', '=', 'tunnel.agent_id'),
    )
    .innerJoin('credential as agent_key', 'agent_key.id', 'agent.credential_id')
    .leftJoin('credential as opener_key', 'opener_key.id', 'tunnel.opened_by_credential_id')
    .leftJoin('refresh_family', 'refresh_family.id', 'tunnel.opened_by_family_id')
    .select('tunnel.session_id as sessionId')
    .where('tunnel.closed_at', 'is', null)
    .where('agent_key.revoked_at', 'is', null)
    .where((eb) => eb.or([eb('agent_key.expires_at', 'is', null), eb('agent_key.expires_at', '>', now)]))
    .where((eb) =>
      eb.or([
        eb('tunnel.opened_by_credential_id', 'is', null),
        eb.and([
          eb('opener_key.id', 'is not', null),
          eb('opener_key.revoked_at', 'is', null),
          eb.or([eb('opener_key.expires_at', 'is', null), eb('opener_key.expires_at', '>', now)]),
        ]),
      ]),
    )
    .where((eb) =>
      eb.or([
        eb('tunnel.opened_by_family_id', 'is', null),
        eb.and([eb('refresh_family.id', 'is not', null), eb('refresh_family.ended_at', 'is', null)]),
      ]),
    )
    .execute()
  return new Set(rows.map(({ sessionId }) => sessionId))
}

function useColumns(use: TunnelUse) {
  return { last_activity_at: use.lastActivityAt, bytes_in: use.bytesIn, bytes_out: use.bytesOut }
}
