import { expect, test } from 'vitest'
import { agentExists, type ClaimOutcome, claimAgent, liveCredentials, noteAgentHeard } from '../../src/store/agents.ts'
import { insertCredential, revokeCredential } from '../../src/store/credentials.ts'
import { endSignIn, insertSignIn } from '../../src/store/sign-ins.ts'
import type { Store } from '../../src/store/store.ts'
import { deleteMember, deleteTeam, insertMember, insertTeam, setRole } from '../../src/store/teams.ts'
import {
  closeTunnel,
  insertTunnel,
  listOpenTunnels,
  noteTunnelUse,
  type TunnelRecord,
  tunnelsInForce,
} from '../../src/store/tunnels.ts'
import { insertUser } from '../../src/store/users.ts'
import { onBothEngines } from './engines.ts'

const AT = 1_790_000_000_123
const TEAM = 'team-1'

const claim = (machineKey: string) => ({
  teamId: TEAM,
  agentId: 'gpu-1',
  machineKey,
  gatewayId: 'gw-1',
  credentialId: 'agent-key',
  agentVersion: '1.0.0',
  at: AT,
})

async function credential(store: Store, id: string, expiresAt: number | null = null): Promise<void> {
  await insertCredential(store, {
    id,
    teamId: TEAM,
    userId: 'ada',
    kind: 'agent',
    displayName: id,
    keyPrefix: 'ak-',
    keyHash: id,
    companionId: null,
    createdAt: AT,
    expiresAt,
  })
}

/** A team with a member, that member's two keys and sign-in, and an agent connected with one of the keys. */
async function teamWithAgent(store: Store): Promise<void> {
  const names = { firstName: '', lastName: '', displayName: 'Ada' }
  await insertUser(store, { id: 'ada', emailAddress: 'ada@example.org', ...names, passwordHash: '', createdAt: AT })
  await insertTeam(store, { id: TEAM, displayName: 'One', createdAt: AT })
  await insertMember(store, { teamId: TEAM, userId: 'ada', role: 'member', joinedAt: AT })
  await credential(store, 'agent-key')
  await credential(store, 'opener-key', AT + 1000)
  await insertSignIn(store, { id: 'family', userId: 'ada', createdAt: AT, expiresAt: AT + 1_000_000 })
  await claimAgent(store, claim('machine-1'), () => false)
}

const tunnel = (sessionId: string, opener: Partial<TunnelRecord>): TunnelRecord => ({
  sessionId,
  teamId: TEAM,
  agentId: 'gpu-1',
  targetPort: 8188,
  protocol: 'http',
  tokenHash: `hash-${sessionId}`,
  tokenSealed: 'sealed',
  adminTokenHash: 'admin',
  openedByUserId: 'ada',
  openedByCredentialId: null,
  openedByFamilyId: null,
  taskId: null,
  openedAt: AT,
  lastActivityAt: AT,
  idleTimeoutMs: 1_800_000,
  bytesIn: 0,
  bytesOut: 0,
  ...{ profile: 'generic', hostPolicy: 'rewrite', pathMode: 'strip', label: `label-${sessionId}`, edgePort: null },
  ...opener,
})

onBothEngines('agents in the store', ({ emptyStore }) => {
  test('claims of one id at the same time are put in an order', async () => {
    const store = await emptyStore()
    await teamWithAgent(store)
    const claims = await Promise.all(
      Array.from({ length: 8 }, () => claimAgent(store, claim('machine-1'), () => false)),
    )
    const generations = claims.map((outcome: ClaimOutcome) => (outcome.kind === 'claimed' ? outcome.generation : 0))
    expect(generations.sort((a, b) => a - b)).toEqual([2, 3, 4, 5, 6, 7, 8, 9])
  })

  test('another machine gets an id only when it may be replaced', async () => {
    const store = await emptyStore()
    await teamWithAgent(store)
    expect(await claimAgent(store, claim('machine-2'), () => false)).toEqual({ kind: 'taken' })
    expect(await claimAgent(store, claim('machine-2'), () => true)).toMatchObject({ kind: 'claimed', generation: 2 })
    await noteAgentHeard(store, { teamId: TEAM, agentId: 'gpu-1', generation: 1, at: AT + 1 })
    expect(await agentExists(store, TEAM, 'gpu-1')).toBe(true)
    expect(await agentExists(store, 'team-2', 'gpu-1')).toBe(false)
  })

  test('keys that were revoked, expired or never were are told from good ones', async () => {
    const store = await emptyStore()
    await teamWithAgent(store)
    await credential(store, 'revoked-key')
    await revokeCredential(store, 'revoked-key', AT)
    const asked = ['agent-key', 'opener-key', 'revoked-key', 'no-key']
    expect(await liveCredentials(store, asked, AT)).toEqual(new Set(['agent-key', 'opener-key']))
    expect(await liveCredentials(store, asked, AT + 1000)).toEqual(new Set(['agent-key']))
    expect(await liveCredentials(store, [], AT)).toEqual(new Set())
  })
})

onBothEngines('tunnels in the store', ({ emptyStore }) => {
  test('are given back as they were opened, with their use, until closed once', async () => {
    const store = await emptyStore()
    await teamWithAgent(store)
    const opened = tunnel('s1', { protocol: 'tcp', openedByFamilyId: 'family' })
    await insertTunnel(store, opened)
    const use = { sessionId: 's1', lastActivityAt: AT + 5, bytesIn: 2 ** 40, bytesOut: 7 }
    await noteTunnelUse(store, use)
    expect(await listOpenTunnels(store)).toEqual([{ ...opened, ...use }])
    expect(await closeTunnel(store, use, AT + 6)).toBe(true)
    expect(await closeTunnel(store, use, AT + 7)).toBe(false)
    expect(await listOpenTunnels(store)).toEqual([])
  })

  const endings: Record<string, { of: string[]; end: (store: Store) => Promise<unknown>; now?: number }> = {
    'nothing ended': { of: [], end: async () => {} },
    'the opening key was revoked': { of: ['by-key'], end: (store) => revokeCredential(store, 'opener-key', AT) },
    'the opening key expired': { of: ['by-key'], end: async () => {}, now: AT + 1000 },
    'the sign-in ended': { of: ['by-user'], end: (store) => endSignIn(store, 'family', AT) },
    "the agent's key was revoked": {
      of: ['by-key', 'by-user'],
      end: (store) => revokeCredential(store, 'agent-key', AT),
    },
    'the opener left': { of: ['by-key', 'by-user'], end: (store) => deleteMember(store, TEAM, 'ada') },
    'the opener only reads now': { of: ['by-key', 'by-user'], end: (store) => setRole(store, TEAM, 'ada', 'viewer') },
    'the team is gone': { of: ['by-key', 'by-user'], end: (store) => deleteTeam(store, TEAM) },
  }
  test.each(Object.entries(endings))('are in force until the right they stand on ends: %s', async (_name, ending) => {
    const store = await emptyStore()
    await teamWithAgent(store)
    await insertTunnel(store, tunnel('by-key', { openedByCredentialId: 'opener-key' }))
    await insertTunnel(store, tunnel('by-user', { openedByFamilyId: 'family' }))
    await ending.end(store)
    const inForce = await tunnelsInForce(store, ending.now ?? AT)
    expect(['by-key', 'by-user'].filter((id) => !inForce.has(id))).toEqual(ending.of)
  })
})
