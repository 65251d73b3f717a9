import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ApiError } from '@cyberun/api'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openStore, type Store } from '../../src/store/store.ts'
import { INSPECTORS_LIMITS, Inspectors } from '../../src/tunnels/inspector/inspectors.ts'
import type { OpenTunnel } from '../../src/tunnels/open-tunnel.ts'
import { failTransaction } from '../store/away.ts'
import { newTunnel, SILENT } from './bed.ts'

let directory: string
let store: Store
let tunnels: OpenTunnel[]
let inspectors: Inspectors

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-inspectors-'))
  store = await openStore({ dataDir: directory, log: SILENT })
  tunnels = Array.from({ length: INSPECTORS_LIMITS.team + 1 }, () => newTunnel())
  inspectors = new Inspectors({
    ...{ store, log: SILENT },
    clock: { now: () => 0, tick: () => 0 },
    agents: { linkOf: () => undefined },
    routing: { pathTo: () => undefined },
    tunnels: {
      find(_teamId, _agentId, sessionId) {
        const found = tunnels.find(({ facts }) => facts.sessionId === sessionId)
        if (!found) throw new ApiError('not_found', 'There is no such tunnel.')
        return found
      },
    },
    tunnelUrl: () => '',
  })
})
afterEach(async () => {
  await store.close()
  rmSync(directory, { recursive: true, force: true })
})

async function turn({ facts }: OpenTunnel, is_enabled: boolean): Promise<boolean> {
  const caller = { userId: facts.openedByUserId, credentialId: 'key' }
  return (await inspectors.set(caller, facts, { is_enabled, is_body_kept: false })).is_enabled
}

const areOn = () => tunnels.filter(({ inspector }) => inspector !== undefined).length

test('no more are on than a team may have, also when all are turned on at once', async () => {
  const answers = await Promise.allSettled(tunnels.map((tunnel) => turn(tunnel, true)))
  expect(answers.filter(({ status }) => status === 'rejected')).toMatchObject([{ reason: { code: 'conflict' } }])
  expect(areOn()).toBe(INSPECTORS_LIMITS.team)
})

test.each([
  ['is turned off', (tunnel: OpenTunnel) => turn(tunnel, false)],
  ['is closed', (tunnel: OpenTunnel) => tunnel.close()],
])('one that %s makes room', async (_name, end) => {
  const [first, ...others] = tunnels as [OpenTunnel, ...OpenTunnel[]]
  for (const tunnel of [first, ...others.slice(1)]) await turn(tunnel, true)
  await end(first)
  expect(await turn(others[0] as OpenTunnel, true)).toBe(true)
  expect(areOn()).toBe(INSPECTORS_LIMITS.team)
})

test('one that could not be recorded takes no room', async () => {
  const [first, ...others] = tunnels as [OpenTunnel, ...OpenTunnel[]]
  failTransaction(store)
  await expect(turn(first, true)).rejects.toThrow()
  for (const tunnel of others) expect(await turn(tunnel, true)).toBe(true)
})
