import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AgentView, type Role, routes } from '@cyberun/api'
import { createLog } from '@cyberun/link/log'
import { createLocalBus } from '../../src/bus.ts'
import type { Control } from '../../src/control/control.ts'
import type { AgentsPort } from '../../src/control/ports.ts'
import { createIdentity } from '../../src/identity/create-identity.ts'
import type { Actor, Identity } from '../../src/identity/identity.ts'
import type { AgentPath } from '../../src/routing/routing.ts'
import { claimAgent } from '../../src/store/agents.ts'
import { openServerSecret } from '../../src/store/server-secret.ts'
import { openStore } from '../../src/store/store.ts'
import { submitTask } from '../../src/store/submissions.ts'
import { Tasks } from '../../src/tasks/tasks.ts'
import { Inspectors } from '../../src/tunnels/inspector/inspectors.ts'
import { Tunnels } from '../../src/tunnels/tunnels.ts'
import { Workflows } from '../../src/workflows/workflows.ts'
import { edgeAddress, noPortDoors } from '../tunnels/bed.ts'
import { AGENT, controlWith } from './doubles.ts'
import { ECHO_WORKFLOW } from './task-requests.ts'

export const PASSWORD = 'correct horse battery'
const ECHO = routes['POST /workflows/import'].body.parse(ECHO_WORKFLOW)
const RUN = routes['POST /r/workflows/{id}/run'].body.parse({})
const SIGNAL = new AbortController().signal
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
  /** Of the workflow `echo`. */
  workflowId: string
  /** Of a run of it, cancelled. */
  taskId: string
  actor(role: Role): Actor
}

export interface TeamWorld {
  control: Control
  identity: Identity
  tasks: Tasks
  people: Record<Role | 'stranger', Person>
  /** The bus says so: ids of credentials that were revoked. */
  revoked: string[]
  lines: string[]
  /** A team of `people`, in their roles. */
  newTeam(): Promise<Team>
  /** Inspects the team's tunnel, and answers with the number of a request that passed. */
  inspected(team: Team): Promise<number>
  /** A team of the stranger only. */
  foreign: Team
  /** Does `work` while the server's clock is ahead. */
  daysAhead<T>(days: number, work: () => Promise<T>): Promise<T>
  close(): Promise<void>
}

/** A control listener over a real store, identity and tunnels. Only the agents are made up: a list kept by team. */
export async function teamWorld(): Promise<TeamWorld> {
  const dataDir = await mkdtemp(join(tmpdir(), 'cyberun-control-'))
  const lines: string[] = []
  const log = createLog({ level: 'debug', format: 'json', write: (line) => void lines.push(line) })
  const store = await openStore({ dataDir, log })
  const bus = createLocalBus()
  const revoked: string[] = []
  bus.subscribe('credential.revoked', ({ credentialId }) => void revoked.push(credentialId))
  let ahead = 0
  const now = () => Date.now() + ahead
  const secret = openServerSecret(join(dataDir, 'secret.key'))
  const identity = await createIdentity({
    store,
    bus,
    log,
    now,
    secret,
    issuer: 'http://localhost',
    limits: {
      loginsPerAddress: UNLIMITED,
      loginsPerAccount: UNLIMITED,
      failuresPerAddress: UNLIMITED,
      pairingsPerAddress: UNLIMITED,
      codesPerUser: UNLIMITED,
    },
  })
  const agentList: { teamId: string; view: AgentView }[] = []
  const agents: AgentsPort = {
    list: (teamId) => agentList.filter((agent) => agent.teamId === teamId).map(({ view }) => view),
    get: (teamId, agentId) => agents.list(teamId).find((view) => view.agent_id === agentId),
  }
  const tunnels = await Tunnels.start({
    ...{ store, bus, log, now, secret },
    agents: { get: agents.get, holdTunnel: () => () => {} },
    routing: { pathTo: () => path },
    portDoors: noPortDoors(),
    edge: () => edgeAddress('http://127.0.0.1:8788', 'localhost'),
  })
  const workflows = new Workflows({ store, now })
  const tasks = new Tasks({
    ...{ store, bus, log, now },
    files: { downloadUrl: () => ({ url: 'http://127.0.0.1/files/x', expiresAt: now() + DAY_MS }) },
    dispatch: { situations: () => [], submit: (task) => submitTask(store, task) },
    tunnelUrl: () => undefined,
    eventRetentionMs: DAY_MS,
  })
  const inspectors = new Inspectors({
    ...{ store, log, tunnels },
    clock: { now, tick: () => performance.now() },
    agents: { linkOf: () => undefined },
    routing: { pathTo: () => path },
    tunnelUrl: () => 'http://127.0.0.1:8788/tunnel/token/',
  })
  const control = await controlWith({ identity, log, bus, agents, tunnels, inspectors, workflows, tasks })

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
  /** An agent that is connected now, and known to the store as one that has been. */
  async function newAgent(owner: Actor): Promise<string> {
    const { teamId } = owner
    const agentId = `agent-${agentList.length}`
    agentList.push({ teamId, view: { ...AGENT, agent_id: agentId } })
    const { id: credentialId } = await identity.createCredential(owner, { kind: 'agent', displayName: agentId })
    const claim = {
      teamId,
      agentId,
      credentialId,
      machineKey: 'key',
      gatewayId: 'gw',
      agentVersion: '0.1.0',
      at: now(),
    }
    await claimAgent(store, claim, () => false)
    return agentId
  }
  async function teamOf(owner: Person): Promise<Team> {
    const { id } = await identity.createTeam(owner.id, 'Team')
    const actor = (role: Role): Actor => ({ userId: people[role].id, teamId: id, role })
    const agentId = await newAgent({ userId: owner.id, teamId: id, role: 'owner' })
    const opened = await tunnels.open(
      { userId: owner.id },
      id,
      agentId,
      routes['POST /agents/{agentId}/tunnel'].body.parse({}),
      SIGNAL,
    )
    const editor = { userId: owner.id, teamId: id }
    const { id: workflowId } = await workflows.import(editor, ECHO)
    const submitter = { ...editor, source: 'jwt' as const }
    const { task_id: taskId } = await tasks.submit(submitter, { id: workflowId }, RUN, undefined)
    await tasks.cancel(id, taskId)
    return { id, actor, agentId, sessionId: opened.session_id, workflowId, taskId }
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
    tasks,
    people,
    revoked,
    lines,
    newTeam,
    async inspected({ id: teamId, agentId, sessionId }) {
      const name = { teamId, agentId, sessionId }
      await inspectors.set({ userId: people.owner.id }, name, { is_enabled: true, is_body_kept: false })
      const request = { method: 'GET', path: '/', address: null, replayOf: null }
      const entry = tunnels.find(teamId, agentId, sessionId).inspector?.begin(request)
      entry?.asked(['Host', 'localhost'], false, undefined)
      return entry?.number ?? 0
    },
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
      await tasks.stop()
      await tunnels.stop()
      await identity.stop()
      await store.close()
      await rm(dataDir, { recursive: true })
    },
  }
}

/** A path to an agent on which whatever is dialled takes the connection, and no request. */
const path: AgentPath = {
  open: async (init, events) => ({
    id: 1,
    init,
    accepted: Promise.resolve(),
    queuedBytes: 0,
    accept() {},
    listen() {},
    write() {
      setImmediate(() => events?.onReset('target_reset'))
      return true
    },
    pass: () => true,
    end() {},
    reset() {},
  }),
}
