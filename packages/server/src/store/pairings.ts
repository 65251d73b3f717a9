import { Sql } from './handle.ts'

export interface PairingApproval {
  userId: string
  teamId: string
  deviceName: string | null
}

/** False when the user code is taken right now; draw another. */
export async function insertPairing(
  sql: Sql,
  pairing: { deviceCodeHash: string; userCode: string; createdAt: number; expiresAt: number },
): Promise<boolean> {
  const result = await Sql.db(sql)
    .insertInto('pairing')
    .values({
      device_code_hash: pairing.deviceCodeHash,
      user_code: pairing.userCode,
      created_at: pairing.createdAt,
      expires_at: pairing.expiresAt,
      approved_by_user_id: null,
      approved_team_id: null,
      device_name: null,
    })
    .onConflict((conflict) => conflict.column('user_code').doNothing())
    .executeTakeFirst()
  return result.numInsertedOrUpdatedRows === 1n
}

export async function countPairings(sql: Sql): Promise<number> {
  const { count } = await Sql.db(sql)
    .selectFrom('pairing')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow()
  return count
}

export async function deleteExpiredPairings(sql: Sql, now: number): Promise<void> {
  await Sql.db(sql).deleteFrom('pairing').where('expires_at', '<=', now).execute()
}

/** False when no device waits under this code, or it was let in already. */
export async function approvePairing(
  sql: Sql,
  userCode: string,
  approval: PairingApproval,
  now: number,
): Promise<boolean> {
  const result = await Sql.db(sql)
    .updateTable('pairing')
    .set({
      approved_by_user_id: approval.userId,
      approved_team_id: approval.teamId,
      device_name: approval.deviceName,
    })
    .where('user_code', '=', userCode)
    .where('expires_at', '>', now)
    .where('approved_by_user_id', 'is', null)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

export async function isPairingOpen(sql: Sql, deviceCodeHash: string, now: number): Promise<boolean> {
  const row = await Sql.db(sql)
    .selectFrom('pairing')
    .select('device_code_hash')
    .where('device_code_hash', '=', deviceCodeHash)
    .where('expires_at', '>', now)
    .executeTakeFirst()
  return row !== undefined
}

/** Takes an approved pairing away and returns its approval, once: of two polls at the same time one finds nothing. */
export async function takeApprovedPairing(
  sql: Sql,
  deviceCodeHash: string,
  now: number,
): Promise<PairingApproval | undefined> {
  const row = await Sql.db(sql)
    .deleteFrom('pairing')
    .where('device_code_hash', '=', deviceCodeHash)
    .where('expires_at', '>', now)
    .where('approved_by_user_id', 'is not', null)
    .returning(['approved_by_user_id', 'approved_team_id', 'device_name'])
    .executeTakeFirst()
  if (row === undefined || row.approved_by_user_id === null || row.approved_team_id === null) return undefined
  return { userId: row.approved_by_user_id, teamId: row.approved_team_id, deviceName: row.device_name }
}
