import { createPublicKey, verify } from 'node:crypto'
import { chmod, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type MachineProof, machineProofText } from '@cyberun/protocol'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { MachineKeyError, openMachineKey } from '../src/machine-key.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cyberun-key-'))
})
afterEach(() => rm(dir, { recursive: true }))

function holds(proof: MachineProof, challenge: string, agentId: string): boolean {
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: proof.public_key }, format: 'jwk' })
  return verify(null, Buffer.from(machineProofText(challenge, agentId)), key, Buffer.from(proof.signature, 'base64url'))
}

test('the key is made once, kept private, and signs challenge and id', async () => {
  const state = join(dir, 'deep', 'state')
  const first = (await openMachineKey(state)).prove('challenge', 'studio-7')
  const second = (await openMachineKey(state)).prove('other', 'studio-7')
  expect(second.public_key).toBe(first.public_key)
  expect(holds(first, 'challenge', 'studio-7')).toBe(true)
  expect(holds(first, 'other', 'studio-7')).toBe(false)
  expect(holds(first, 'challenge', 'studio-8')).toBe(false)
  expect((await stat(join(state, 'machine.key'))).mode & 0o777).toBe(0o600)
  expect((await stat(state)).mode & 0o777).toBe(0o700)
})

test('agents that start together agree on one key and leave no draft behind', async () => {
  const keys = await Promise.all(Array.from({ length: 8 }, () => openMachineKey(dir)))
  expect(new Set(keys.map((key) => key.prove('c', 'a').public_key)).size).toBe(1)
  expect(await readdir(dir)).toEqual(['machine.key'])
})

test('a key that others can read is made private again', async () => {
  await openMachineKey(dir)
  await chmod(join(dir, 'machine.key'), 0o644)
  await openMachineKey(dir)
  expect((await stat(join(dir, 'machine.key'))).mode & 0o777).toBe(0o600)
})

test('a damaged key and a state directory that is a file are clear errors', async () => {
  await writeFile(join(dir, 'machine.key'), 'not a key')
  await expect(openMachineKey(dir)).rejects.toThrow(MachineKeyError)
  await expect(openMachineKey(join(dir, 'machine.key'))).rejects.toThrow(/state_dir must be a directory/)
})
