import { expect, test } from 'vitest'
import { LiveCalls } from '../../src/identity/live-calls.ts'
import { Admission } from '../../src/terminals/admission.ts'
import { ADDRESS, identityWorld, refusalCode } from '../identity/identity-world.ts'
import { holdStatement } from '../store/away.ts'
import { onBothEngines } from '../store/engines.ts'

const OPENING = { viewer: 'viewer-01', cols: 80, rows: 24 }

onBothEngines('a terminal', ({ emptyStore }) => {
  test('is not opened with a key that is revoked while its use is noted', async () => {
    const store = await emptyStore()
    const { identity, bus, team } = await identityWorld(store)
    const { member } = await team('red')
    const { id, rawKey } = await identity.createCredential(member, { kind: 'integration', displayName: 'ci' })
    const tunnels = { findByAdminToken: () => undefined }
    const admission = new Admission({ identity, tunnels, liveCalls: new LiveCalls(bus), now: () => 0 })
    const held = holdStatement(store, id)
    const admitting = admission.admit(OPENING, rawKey, 'gpu-1', ADDRESS)
    await held.begun
    await identity.revokeCredential(member, id)
    held.goOn()
    expect(await refusalCode(admitting)).toBe('unauthenticated')
  })
})
