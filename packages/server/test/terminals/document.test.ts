import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { TERMINALS_LIMITS } from '../../src/terminals/limits.ts'
import { CLOSE } from '../../src/terminals/viewer-socket.ts'

const page = readFileSync(new URL('../../../../docs/terminal.md', import.meta.url), 'utf8').replace(/\s+/g, ' ')

test('every number of docs/terminal.md is the one of the code', () => {
  expect(page).toContain(`carries the secret, within ${TERMINALS_LIMITS.openingMs / 1000} s`)
  expect(page).toContain(`beyond ${TERMINALS_LIMITS.wrongTokensPerAddress} a minute from one address 429`)
  expect(page).toContain(`a socket that is silent for ${TERMINALS_LIMITS.silenceMs / 1000} s is closed`)
  expect(page).toContain(
    `${CLOSE.revoked} means that the right has ended, ${CLOSE.linkLost} that the agent's link was lost`,
  )
})

test('every file that docs/terminal.md names is there', () => {
  const root = new URL('../../../../', import.meta.url)
  const links = [...page.matchAll(/\]\(([\w./-]+\.md)\)/g)].map(([, path]) => `docs/${path}`)
  const files = [...page.matchAll(/`(packages\/[\w./-]+)`/g)].map(([, path]) => path ?? '')
  expect(links.length + files.length).toBeGreaterThan(2)
  for (const path of [...links, ...files]) expect(existsSync(new URL(path, root)), path).toBe(true)
})
