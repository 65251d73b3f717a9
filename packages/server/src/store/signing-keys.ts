import { Sql } from './handle.ts'

export interface SigningKeyRecord {
  kid: string
  /** JSON. */
  publicJwk: string
  privateSealed: string
  createdAt: number
  /** When another key took over; it still verifies what it signed before. */
  retiredAt: number | null
}

export async function insertSigningKey(sql: Sql, key: SigningKeyRecord): Promise<void> {
  await Sql.db(sql)
    .insertInto('signing_key')
    .values({
      kid: key.kid,
      public_jwk: key.publicJwk,
      private_sealed: key.privateSealed,
      created_at: key.createdAt,
      retired_at: key.retiredAt,
    })
    .execute()
}

/** Newest first. */
export function listSigningKeys(sql: Sql): Promise<SigningKeyRecord[]> {
  return Sql.db(sql)
    .selectFrom('signing_key')
    .select([
      'kid',
      'public_jwk as publicJwk',
      'private_sealed as privateSealed',
      'created_at as createdAt',
      'retired_at as retiredAt',
    ])
    .orderBy('created_at', 'desc')
    .orderBy('kid')
    .execute()
}

/** Retires every key but `kid`. */
export async function retireOtherSigningKeys(sql: Sql, kid: string, now: number): Promise<void> {
  await Sql.db(sql)
    .updateTable('signing_key')
    .set({ retired_at: now })
    .where('kid', '!=', kid)
    .where('retired_at', 'is', null)
    .execute()
}

export async function deleteSigningKeysRetiredBefore(sql: Sql, before: number): Promise<void> {
  await Sql.db(sql).deleteFrom('signing_key').where('retired_at', '<', before).execute()
}
