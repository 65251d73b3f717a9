import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { makeFolder } from '../src/folders.ts'

test('all that is missing is made, with the mode, and what is there stays', () => {
  const base = mkdtempSync(join(tmpdir(), 'cyberun-folders-'))
  onTestFinished(() => rmSync(base, { recursive: true, force: true }))
  const path = join(base, 'a', 'b', 'c')
  makeFolder(path, 0o700)
  makeFolder(path, 0o755)
  for (const made of [join(base, 'a'), path]) expect(statSync(made).mode & 0o777).toBe(0o700)
  writeFileSync(join(path, 'file'), '')
  expect(() => makeFolder(join(path, 'file'))).toThrow('cannot be made (EEXIST): choose one')
  expect(() => makeFolder(join(path, 'file', 'below'))).toThrow('cannot be made (EEXIST)')
})

test('where nothing can be made it fails at once', () => {
  expect(() => makeFolder('/proc/cyberun/data')).toThrow('/proc/cyberun/data cannot be made (ENOENT)')
})
