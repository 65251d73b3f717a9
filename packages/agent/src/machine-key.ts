import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { chmod, link, readFile, stat, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder } from '@cyberun/link/folders'
import { type MachineProof, machineProofText } from '@cyberun/protocol'
import { readIfThere } from './read-if-there.ts'

/** What proves that a link comes from this machine: an Ed25519 key, made once and kept in the state directory. */
export interface MachineKey {
  /** Signs the server's challenge for one link. */
  prove(challenge: string, agentId: string): MachineProof
}

/** The state directory or the key in it cannot be used. The message says which file and what to do. */
export class MachineKeyError extends Error {
  override readonly name = 'MachineKeyError'
}

/** Opens the machine's key in `stateDir`, making directory and key (mode 0600) the first time. Throws `MachineKeyError`. */
export async function openMachineKey(stateDir: string): Promise<MachineKey> {
  const file = join(stateDir, 'machine.key')
  try {
    makeFolder(stateDir, 0o700)
    const pem = (await readIfThere(file)) ?? (await makeKeyFile(file))
    if (((await stat(file)).mode & 0o077) !== 0) await chmod(file, 0o600)
    return machineKey(createPrivateKey(pem))
  } catch (cause) {
    throw new MachineKeyError(
      `${file}: ${(cause as Error).message}; state_dir must be a directory this user can write`,
      {
        cause,
      },
    )
  }
}

/** A key that is not kept: for tests and load generators. */
export function temporaryMachineKey(): MachineKey {
  return machineKey(generateKeyPairSync('ed25519').privateKey)
}

function machineKey(privateKey: KeyObject): MachineKey {
  const publicKey = createPublicKey(privateKey).export({ format: 'jwk' }).x
  if (privateKey.asymmetricKeyType !== 'ed25519' || publicKey === undefined)
    throw new Error('not an Ed25519 private key')
  return {
    prove: (challenge, agentId) => ({
      public_key: publicKey,
      signature: sign(null, Buffer.from(machineProofText(challenge, agentId)), privateKey).toString('base64url'),
    }),
  }
}

/** Two agents that start at once must agree on one key: the file appears whole, and whoever comes second reads the first's. */
async function makeKeyFile(file: string): Promise<string> {
  const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const draft = `${file}.${randomBytes(6).toString('hex')}`
  await writeFile(draft, pem, { mode: 0o600, flag: 'wx', flush: true })
  try {
    await link(draft, file)
    return pem
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return await readFile(file, 'utf8')
  } finally {
    await unlink(draft)
  }
}
