import { createHash, randomBytes } from 'node:crypto'

/** A secret of 256 random bits that we hand out: refresh tokens, invitations, device codes, tunnel tokens. */
export function newSecret(): string {
  return randomBytes(32).toString('base64url')
}

/**
 * How we keep a secret of our own making: SHA-256, hex. It has 256 random bits, so a slow hash would protect nothing
 * and cost everything.
 */
export function hashSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}
