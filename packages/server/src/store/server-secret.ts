import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { makeFolder } from '@cyberun/link/folders'
import { StoreOpenError } from './store-error.ts'

const SECRET_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** What is sealed for one purpose cannot be opened for another: each has its own key. */
export type SealPurpose = 'signing-key' | 'tunnel-token'

/**
 * Seals the few secrets we must be able to read again. The key lives in a file outside the database, so that a copy of
 * the database opens nothing.
 */
export interface ServerSecret {
  /** AES-256-GCM as base64url of nonce, tag and ciphertext. `subject` is the id of the row it will stand in. */
  seal(purpose: SealPurpose, subject: string, text: string): string
  /** Undefined when it was sealed with another secret, for another purpose or subject, or was changed since. */
  open(purpose: SealPurpose, subject: string, sealed: string): string | undefined
  /** A key for another purpose of our own, 32 bytes. */
  deriveKey(purpose: string): Buffer
}

/** Reads the secret at `path`, or makes it (mode 0600). Throws `StoreOpenError` when the file is not one of ours. */
export function openServerSecret(path: string): ServerSecret {
  const secret = readSecret(path) ?? createSecret(path)
  if (secret.length !== SECRET_BYTES) {
    throw new StoreOpenError(`${path} is not a server secret of ${SECRET_BYTES} bytes; restore it from a backup`)
  }
  const deriveKey = (purpose: string) => Buffer.from(hkdfSync('sha256', secret, '', `cyberun ${purpose}`, 32))
  const keys = { 'signing-key': deriveKey('signing-key'), 'tunnel-token': deriveKey('tunnel-token') }
  return {
    deriveKey,
    seal(purpose, subject, text) {
      const nonce = randomBytes(NONCE_BYTES)
      const cipher = createCipheriv('aes-256-gcm', keys[purpose], nonce).setAAD(Buffer.from(subject))
      const ciphertext = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
      return Buffer.concat([nonce, cipher.getAuthTag(), ciphertext]).toString('base64url')
    },
    open(purpose, subject, sealed) {
      const bytes = Buffer.from(sealed, 'base64url')
      if (bytes.length < NONCE_BYTES + TAG_BYTES) return undefined
      const decipher = createDecipheriv('aes-256-gcm', keys[purpose], bytes.subarray(0, NONCE_BYTES), {
        authTagLength: TAG_BYTES,
      })
      decipher.setAAD(Buffer.from(subject)).setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES))
      try {
        return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]).toString()
      } catch {
        return undefined // the tag does not match: that is the answer, not a failure
      }
    },
  }
}

function readSecret(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new StoreOpenError(`${path} cannot be read: ${(cause as Error).message}`, { cause })
  }
}

/** Written whole and synced under another name first: a half-written secret would lock us out of our own rows. */
function createSecret(path: string): Buffer {
  makeFolder(dirname(path), 0o700)
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  const file = openSync(temporary, 'wx', 0o600)
  try {
    writeSync(file, randomBytes(SECRET_BYTES))
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
  try {
    linkSync(temporary, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error // another process was first: use its secret
  } finally {
    rmSync(temporary)
  }
  return readFileSync(path)
}
