import { z } from 'zod'
import { Id, oneLine, PageMeta, PageQuery, Time } from './common.ts'

/** Keys and the pairing of devices. */

export const CREDENTIAL_KINDS = ['integration', 'agent', 'device'] as const
export type CredentialKind = (typeof CREDENTIAL_KINDS)[number]
const Kind = z.enum(CREDENTIAL_KINDS)

export const CredentialParams = z.object({ id: Id })
export const CredentialQuery = PageQuery.extend({ kind: Kind.optional() })
export const CredentialBody = z.object({
  kind: z.enum(['integration', 'agent']),
  display_name: oneLine(100),
  expires_in_days: z.int().min(1).max(365).optional().describe('Absent: the key does not expire.'),
})
/** `raw_key` is shown here and never again. */
export const NewCredentialAnswer = z
  .object({ id: Id, kind: Kind, key_prefix: z.string(), raw_key: z.string() })
  .meta({ id: 'NewCredential' })
export const CredentialView = z
  .object({
    id: Id,
    kind: Kind,
    display_name: z.string(),
    key_prefix: z.string(),
    user_id: Id,
    key_status: z.enum(['active', 'revoked', 'expired']),
    created_at: Time,
    last_used_at: Time.nullable(),
    expires_at: Time.nullable(),
  })
  .meta({ id: 'Credential' })
export const CredentialListAnswer = z.object({ credentials: z.array(CredentialView), page_meta: PageMeta })

export const PairStartAnswer = z
  .object({
    device_code: z.string(),
    user_code: z.string().describe('XXXX-XXXX, for a person to type.'),
    verification_uri: z.url(),
    expires_in: z.int().positive().describe('Seconds until the codes are worthless.'),
    interval: z.int().positive().describe('Seconds to wait between two polls.'),
  })
  .meta({ id: 'Pairing' })
export const PairPollBody = z.object({ device_code: z.string().min(1).max(128) })
export const PairPollAnswer = z.discriminatedUnion('status', [
  z.object({ status: z.literal('pending') }),
  z.object({ status: z.literal('approved'), raw_key: z.string(), agent_key: z.string() }),
])
export const PairConfirmBody = z.object({
  user_code: z.string().min(1).max(32),
  device_name: oneLine(100).optional(),
})
