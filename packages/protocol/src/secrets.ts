/**
 * What our secrets look like, so that a typo is refused without a query and nothing of ours is ever logged.
 * A key is `<kind>-` + 43 base62 characters (256 random bits) + 6 base62 characters of CRC-32 over what precedes.
 */

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const RANDOM_CHARACTERS = 43
const CHECKSUM_CHARACTERS = 6
export const KEY_RANDOM_BYTES = 32

/** `sk`: integration, `dk`: device, `ak`: agent. */
export type KeyKind = 'sk' | 'dk' | 'ak'

const KEY = /^(sk|dk|ak)-[0-9A-Za-z]{49}$/

/** Makes a key of `random`, which must be 32 bytes from a cryptographic source. */
export function formatKey(kind: KeyKind, random: Uint8Array): string {
  if (random.length !== KEY_RANDOM_BYTES) throw new Error(`a key needs ${KEY_RANDOM_BYTES} random bytes`)
  let number = 0n
  for (const byte of random) number = (number << 8n) | BigInt(byte)
  const body = `${kind}-${base62(number, RANDOM_CHARACTERS)}`
  return body + checksum(body)
}

/** The kind of a well-formed key whose checksum is right, else undefined. Says nothing of whether it exists. */
export function parseKey(raw: string): KeyKind | undefined {
  if (!KEY.test(raw)) return undefined
  const body = raw.slice(0, -CHECKSUM_CHARACTERS)
  return checksum(body) === raw.slice(-CHECKSUM_CHARACTERS) ? (raw.slice(0, 2) as KeyKind) : undefined
}

/** Replaces keys, JWTs and tunnel tokens in `text`, whatever surrounds them. The last layer before any log. */
export function redactSecrets(text: string): string {
  return text
    .replace(/\b(sk|dk|ak)-[0-9A-Za-z]{20,}/g, '$1-[redacted]')
    .replace(/\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}/g, '[redacted jwt]')
    .replace(/\/tunnel\/[\w-]{16,}/g, '/tunnel/[redacted]')
    .replace(/\b([Bb]earer) [^\s"',\\]+/g, '$1 [redacted]')
}

function base62(value: bigint, characters: number): string {
  let text = ''
  let rest = value
  for (let i = 0; i < characters; i++) {
    text = ALPHABET.charAt(Number(rest % 62n)) + text
    rest /= 62n
  }
  return text
}

function checksum(body: string): string {
  return base62(BigInt(crc32(body)), CHECKSUM_CHARACTERS)
}

/** CRC-32 (ISO 3309, reflected 0xEDB88320) of an ASCII string. */
function crc32(text: string): number {
  let crc = 0xffffffff
  for (let i = 0; i < text.length; i++) {
    crc ^= text.charCodeAt(i)
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  }
  return (crc ^ 0xffffffff) >>> 0
}
