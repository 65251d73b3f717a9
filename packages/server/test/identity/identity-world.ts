import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ApiError, type ErrorCode } from '@cyberun/api'
import { expect, onTestFinished } from 'vitest'
import { type Bus, type BusMessages, createLocalBus } from '../../src/bus.ts'
import { createIdentity } from '../../src/identity/create-identity.ts'
import type { Actor, Identity, TokenPair } from '../../src/identity/identity.ts'
import { openServerSecret } from '../../src/store/server-secret.ts'
import type { Store } from '../../src/store/store.ts'
import { silent } from '../store/engines.ts'

export const ADDRESS = '192.0.2.1'
export const PAGE = { current_page: 1, per_page: 20 }
export const PASSWORD = 'correct horse'
export const SECOND = 1000
export const HOUR = 3600 * SECOND
export const DAY = 24 * HOUR

/** What identity rings the bus for. */
const TOPICS = ['credential.revoked', 'session.revoked', 'member.removed', 'team.deleted'] as const
type IdentityTopic = (typeof TOPICS)[number]

/** Identity on an empty store, with a clock of its own and everything the bus said of it. */
export interface IdentityWorld {
  identity: Identity
  store: Store
  bus: Bus
  said: { [T in IdentityTopic]: BusMessages[T][] }
  /** Moves the clock. */
  pass(ms: number): void
  now(): number
  /** Another server on the same store. */
  another(): Promise<Identity>
  /** A person with an account. */
  person(name: string): Promise<{ userId: string; emailAddress: string }>
  /** A team with a person of each role. */
  team(name: string): Promise<Record<'owner' | 'admin' | 'member' | 'viewer', Actor>>
  login(emailAddress: string): Promise<TokenPair>
}

export async function identityWorld(store: Store): Promise<IdentityWorld> {
  const directory = await mkdtemp(join(tmpdir(), 'cyberun-identity-'))
  onTestFinished(() => rm(directory, { recursive: true }))
  const secret = openServerSecret(join(directory, 'secret.key'))
  const bus = createLocalBus()
  const said: IdentityWorld['said'] = {
    'credential.revoked': [],
    'session.revoked': [],
    'member.removed': [],
    'team.deleted': [],
  }
  for (const topic of TOPICS) {
    bus.subscribe(topic, (message) => (said[topic] as unknown[]).push(message))
  }
  let clock = Date.parse('2026-11-01T12:00:00Z')
  const now = () => clock

  async function another(): Promise<Identity> {
    const made = await createIdentity({ store, bus, log: silent, now, secret, issuer: 'https://control.example' })
    onTestFinished(() => made.stop())
    return made
  }
  const identity = await another()

  async function person(name: string) {
    const emailAddress = `${name}@example.org`
    const { id } = await identity.createUser({ emailAddress, userPassword: PASSWORD, displayName: name })
    return { userId: id, emailAddress }
  }
  async function joinTeam(owner: Actor, userId: string, emailAddress: string, role: 'admin' | 'member' | 'viewer') {
    const { invitationToken } = await identity.createInvitation(owner, emailAddress, role)
    await identity.acceptInvitation(userId, invitationToken)
    return { userId, teamId: owner.teamId, role }
  }

  return {
    identity,
    bus,
    store,
    said,
    now,
    pass: (ms) => {
      clock += ms
    },
    another,
    person,
    async team(name) {
      const founder = await person(`${name}-owner`)
      const { id: teamId } = await identity.createTeam(founder.userId, name)
      const owner: Actor = { userId: founder.userId, teamId, role: 'owner' }
      const joined = async (role: 'admin' | 'member' | 'viewer') => {
        const { userId, emailAddress } = await person(`${name}-${role}`)
        return joinTeam(owner, userId, emailAddress, role)
      }
      return { owner, admin: await joined('admin'), member: await joined('member'), viewer: await joined('viewer') }
    },
    login: (emailAddress) => identity.login(emailAddress, PASSWORD, ADDRESS),
  }
}

/** The error a call ends with. */
export async function refusal(call: Promise<unknown>): Promise<ApiError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(ApiError)
  return error as ApiError
}

export async function refusalCode(call: Promise<unknown>): Promise<ErrorCode> {
  return (await refusal(call)).code
}
