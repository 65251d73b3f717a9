import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AgentView, ApiError, type Role, type TunnelView } from '@cyberun/api'
import { createLog } from '@cyberun/link/log'
import { uuidv7 } from 'uuidv7'
import { createLocalBus } from '../../src/bus.ts'
import type { Control } from '../../src/control/control.ts'
import type { AgentsPort, TunnelsPort } from '../../src/control/ports.ts'
import { createIdentity } from '../../src/identity/create-identity.ts'
import type { Actor, Identity } from '../../src/identity/identity.ts'
import { openServerSecret } from '../../src/store/server-secret.ts'
import { openStore } from '../../src/store/store.ts'
import { AGENT, controlWith } from './doubles.ts'

export const PASSWORD = 'correct horse battery'
const UNLIMITED = 1_000_000
const DAY_MS = 24 * 3600 * 1000

export interface Person {
  id: string
  emailAddress: string
  jwt: string
}

/** A team with one person of each role, and one object of every kind. */
export interface Team {
  id: string
  agentId: string
  sessionId: string
  actor(role: Role): Actor
}

export interface TeamWorld {
  control: Control
  identity: Identity
  people: Record<Role | 'stranger', Person>
  /** The bus says so: ids of credentials that were revoked. */
  revoked: string[]
  lines: string[]
  /** A team of `people`, in their roles. */
  newTeam(): Promise<Team>
  /** A team of the stranger only. */
  foreign: Team
  /** Does `work` while the server's clock is ahead. */
  daysAhead<T>(days: number, work: () => Promise<T>): Promise<T>
  close(): Promise<void>
}

/** A control listener over a real store and real identity; agents and tunnels are lists kept by team. */
export async function teamWorld(): Promise<TeamWorld> {
  const dataDir = await mkdtemp(join(tmpdir(), 'cyberun-control-'))
  const lines: string[] = []
  const log = createLog({ level: 'debug', format: 'json', write: (line) => void lines.push(line) })
  const store = await openStore({ dataDir, log })
  const bus = createLocalBus()
  const revoked: string[] = []
  bus.subscribe('credential.revoked', ({ credentialId }) => void revoked.push(credentialId))
  let ahead = 0
  const identity = await createIdentity({
    store,
    bus,
    log,
    now: () => Date.now() + ahead,
    secret: openServerSecret(join(dataDir, 'secret.key')),
    issuer: 'http://localhost',
    limits: {
      loginsPerAddress: UNLIMITED,
      loginsPerAccount: UNLIMITED,
      failuresPerAddress: UNLIMITED,
      pairingsPerAddress: UNLIMITED,
      codesPerUser: UNLIMITED,
    },
  })
  const machines = machineRoom()
  const control = await controlWith({ identity, log, agents: machines.agents, tunnels: machines.tunnels })

  async function person(name: string): Promise<Person> {
    const emailAddress = `${name}@example.org`
    const { id } = await identity.createUser({ emailAddress, userPassword: PASSWORD, displayName: name })
    const { accessToken } = await identity.login(emailAddress, PASSWORD, '127.0.0.1')
    return { id, emailAddress, jwt: accessToken }
  }
  const people = {
    owner: await person('owner'),
    admin: await person('admin'),
    member: await person('member'),
    viewer: await person('viewer'),
    stranger: await person('stranger'),
  }
  async function teamOf(owner: Person): Promise<Team> {
    const { id } = await identity.createTeam(owner.id, 'Team')
    const actor = (role: Role): Actor => ({ userId: people[role].id, teamId: id, role })
    return { id, actor, agentId: machines.addAgent(id), sessionId: machines.addTunnel(id, owner.id) }
  }
  async function newTeam(): Promise<Team> {
    const team = await teamOf(people.owner)
    for (const role of ['admin', 'member', 'viewer'] as const) {
      const invitation = await identity.createInvitation(team.actor('owner'), people[role].emailAddress, role)
      await identity.acceptInvitation(people[role].id, invitation.invitationToken)
    }
    return team
  }
  return {
    control,
    identity,
    people,
    revoked,
    lines,
    newTeam,
    foreign: await teamOf(people.stranger),
    async daysAhead(days, work) {
      ahead += days * DAY_MS
      try {
        return await work()
      } finally {
        ahead -= days * DAY_MS
      }
    },
    async close() {
      await control.stop(AbortSignal.abort())
      await identity.stop()
      await store.close()
      await rm(dataDir, { recursive: true })
    },
  }
}

/** Agents and tunnels of several teams. What is another team's is unknown, as the ports say. */
function machineRoom() {
  const agentList: { teamId: string; view: AgentView }[] = []
  const tunnelList: { teamId: string; view: TunnelView }[] = []
  const agents: AgentsPort = {
    list: (teamId) => agentList.filter((agent) => agent.teamId === teamId).map(({ view }) => view),
    get: (teamId, agentId) => agents.list(teamId).find((view) => view.agent_id === agentId),
  }
  const ofAgent = (teamId: string, agentId: string) => {
    if (!agents.get(teamId, agentId)) throw new ApiError('not_found', 'There is no such agent in this team.')
    return tunnelList.filter((tunnel) => tunnel.teamId === teamId).map(({ view }) => view)
  }
  const tunnels: TunnelsPort = {
    async open(opener, teamId, agentId, request) {
      ofAgent(teamId, agentId)
      const session_id = addTunnel(teamId, opener.userId)
      const { tunnel_protocol } = request
      return { session_id, tunnel_protocol, tunnel_url: 'http://127.0.0.1/tunnel/t/', admin_token: 'admin' }
    },
    async list(teamId, agentId) {
      const session_list = ofAgent(teamId, agentId)
      const { session_id = '', tunnel_url = '' } = session_list.at(-1) ?? {}
      return { is_active: session_list.length > 0, session_id, tunnel_url, session_list }
    },
    async close(_opener, teamId, agentId, sessionId) {
      const known = ofAgent(teamId, agentId)
      if (sessionId !== undefined && !known.some((view) => view.session_id === sessionId)) {
        throw new ApiError('not_found', 'There is no such session.')
      }
    },
  }
  function addTunnel(teamId: string, opened_by: string): string {
    const session_id = uuidv7()
    tunnelList.push({ teamId, view: { ...TUNNEL, session_id, opened_by } })
    return session_id
  }
  function addAgent(teamId: string): string {
    const agent_id = `agent-${agentList.length}`
    agentList.push({ teamId, view: { ...AGENT, agent_id } })
    return agent_id
  }
  return { agents, tunnels, addAgent, addTunnel }
}

const TUNNEL = {
  target_port: 8188,
  tunnel_protocol: 'http' as const,
  tunnel_url: 'http://127.0.0.1/tunnel/t/',
  opened_at: '2026-01-01T00:00:00.000Z',
  task_id: null,
  viewer_count: 0,
  bytes_in: 0,
  bytes_out: 0,
  last_activity_at: '2026-01-01T00:00:00.000Z',
}
