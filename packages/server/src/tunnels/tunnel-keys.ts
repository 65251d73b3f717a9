import { createHmac, randomBytes } from 'node:crypto'
import { hashSecret, newSecret } from '../identity/secrets.ts'
import type { ServerSecret } from '../store/server-secret.ts'
import type { TunnelSecrets } from '../store/tunnels.ts'

/** A DNS label has at most 63 characters. */
const LABEL_BYTES = 16

/** What a tunnel is reached with; fresh at its opening and at each revocation. */
export interface TunnelKeys {
  token: string
  adminToken: string
  label: string
}

export function newTunnelKeys(): TunnelKeys {
  return {
    token: newSecret(),
    adminToken: newSecret(),
    label: randomBytes(LABEL_BYTES).toString('hex'),
  }
}

/** What of the keys is stored. */
export function secretsOf(
  secret: ServerSecret,
  sessionId: string,
  { token, adminToken, label }: TunnelKeys,
): TunnelSecrets {
  return {
    tokenHash: hashSecret(token),
    tokenSealed: secret.seal('tunnel-token', sessionId, token),
    adminTokenHash: hashSecret(adminToken),
    label,
  }
}

/** The token of a stored tunnel; undefined when it was sealed under another secret file. */
export function openToken(secret: ServerSecret, sessionId: string, sealed: string): string | undefined {
  return secret.open('tunnel-token', sessionId, sealed)
}

/** What the visit cookie holds: whoever has it knows the token, and cannot tell it. */
export function visitSecretOf(key: Buffer, sessionId: string, token: string): string {
  return createHmac('sha256', key).update(sessionId).update(token).digest('base64url')
}
