import { Sql } from './handle.ts'

/** A new link's wish to be an agent. */
export interface AgentClaim {
  teamId: string
  agentId: string
  /** The machine's Ed25519 public key, base64url. */
  machineKey: string
  gatewayId: string
  credentialId: string
  agentVersion: string
  at: number
}

export type ClaimOutcome =
  /** `generation` is higher than any link of this agent had before: it fences them. */
  | { kind: 'claimed'; generation: number; tasksCompleted: number }
  /** Another machine holds the id and `mayReplace` did not let it go. */
  | { kind: 'taken' }

/** Each losing round means that another claim of the same id has won one. */
const MOST_ROUNDS = 20

/**
 * Takes an agent id for a new link, by compare-and-set on its generation. The same machine always may; whether another
 * machine's agent may be replaced, `mayReplace` says.
 */
export async function claimAgent(sql: Sql, claim: AgentClaim, mayReplace: () => boolean): Promise<ClaimOutcome> {
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const held = await findHolder(sql, claim.teamId, claim.agentId)
    if (held && held.machineKey !== claim.machineKey && !mayReplace()) return { kind: 'taken' }
    const won = held ? await replace(sql, claim, held) : await insert(sql, claim)
    if (won) return won
  }
  return { kind: 'taken' }
}

/** Notes when an agent was last heard, unless a newer link has taken over. */
export async function noteAgentHeard(
  sql: Sql,
  agent: { teamId: string; agentId: string; generation: number; at: number },
): Promise<void> {
  await Sql.db(sql)
    .updateTable('agent')
    .set({ last_heartbeat_at: agent.at })
    .where('team_id', '=', agent.teamId)
    .where('agent_id', '=', agent.agentId)
    .where('generation', '=', agent.generation)
    .execute()
}

/** Whether the team ever had an agent of this name. */
export async function agentExists(sql: Sql, teamId: string, agentId: string): Promise<boolean> {
  return (await findHolder(sql, teamId, agentId)) !== undefined
}

/** Of these credentials, those that are neither revoked, expired nor gone. At most 500 at once. */
export async function liveCredentials(sql: Sql, ids: readonly string[], now: number): Promise<Set<string>> {
  if (ids.length === 0) return new Set()
  const rows = await Sql.db(sql)
    .selectFrom('credential')
    .select('id')
    .where('id', 'in', [...ids])
    .where('revoked_at', 'is', null)
    .where((eb) => eb.or([eb('expires_at', 'is', null), eb('expires_at', '>', now)]))
    .execute()
  return new Set(rows.map(({ id }) => id))
}

interface HeldRow {
  machineKey: string
  generation: number
  tasksCompleted: number
}

async function findHolder(sql: Sql, teamId: string, agentId: string): Promise<HeldRow | undefined> {
  return await Sql.db(sql)
    .selectFrom('agent')
    .select(['machine_key as machineKey', 'generation', 'tasks_completed as tasksCompleted'])
    .where('team_id', '=', teamId)
    .where('agent_id', '=', agentId)
    .executeTakeFirst()
}

async function replace(sql: Sql, claim: AgentClaim, held: HeldRow): Promise<ClaimOutcome | undefined> {
  const generation = held.generation + 1
  const result = await Sql.db(sql)
    .updateTable('agent')
    .set({
      machine_key: claim.machineKey,
      generation,
      gateway_id: claim.gatewayId,
      credential_id: claim.credentialId,
      agent_version: claim.agentVersion,
      connected_at: claim.at,
      last_heartbeat_at: claim.at,
    })
    .where('team_id', '=', claim.teamId)
    .where('agent_id', '=', claim.agentId)
    .where('generation', '=', held.generation)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n ? { kind: 'claimed', generation, tasksCompleted: held.tasksCompleted } : undefined
}

async function insert(sql: Sql, claim: AgentClaim): Promise<ClaimOutcome | undefined> {
  const result = await Sql.db(sql)
    .insertInto('agent')
    .values({
      team_id: claim.teamId,
      agent_id: claim.agentId,
      machine_key: claim.machineKey,
      generation: 1,
      gateway_id: claim.gatewayId,
      credential_id: claim.credentialId,
      agent_version: claim.agentVersion,
      connected_at: claim.at,
      last_heartbeat_at: claim.at,
      tasks_completed: 0,
    })
    .onConflict((conflict) => conflict.columns(['team_id', 'agent_id']).doNothing())
    .executeTakeFirst()
  return result.numInsertedOrUpdatedRows === 1n ? { kind: 'claimed', generation: 1, tasksCompleted: 0 } : undefined
}
