import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openServerSecret } from '../../src/store/server-secret.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cyberun-secret-'))
})
afterEach(() => rm(directory, { recursive: true }))

test('what is sealed is opened after a restart, and only for the same purpose and subject', () => {
  const path = join(directory, 'data', 'secret.key')
  const sealed = openServerSecret(path).seal('tunnel-token', 'session-1', 'token ☃')
  const secret = openServerSecret(path)
  expect(secret.open('tunnel-token', 'session-1', sealed)).toBe('token ☃')
  expect(secret.open('signing-key', 'session-1', sealed)).toBeUndefined()
  expect(secret.open('tunnel-token', 'session-2', sealed)).toBeUndefined()
  expect(openServerSecret(join(directory, 'other.key')).open('tunnel-token', 'session-1', sealed)).toBeUndefined()
})

test('what was changed by one character is not opened', () => {
  const secret = openServerSecret(join(directory, 'secret.key'))
  const sealed = secret.seal('tunnel-token', 's', 'token')
  for (let at = 0; at < sealed.length - 1; at++) {
    const changed = `${sealed.slice(0, at)}${sealed[at] === 'A' ? 'B' : 'A'}${sealed.slice(at + 1)}`
    expect(secret.open('tunnel-token', 's', changed)).toBeUndefined()
  }
  expect(secret.open('tunnel-token', 's', 'short')).toBeUndefined()
})

test('the file is for its owner only, and one that is not a secret is refused', async () => {
  const path = join(directory, 'secret.key')
  openServerSecret(path)
  expect((await stat(path)).mode & 0o777).toBe(0o600)
  await writeFile(path, 'short')
  expect(() => openServerSecret(path)).toThrow('is not a server secret of 32 bytes')
})
