import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Client, createClient } from '@cyberun/api/client'
import type { AttemptName } from '@cyberun/protocol'
import type { Child } from '../child.ts'
import { type Postgres, startPostgres } from '../postgres.ts'
import type { ServerVerbs, StartedServer } from '../processes/server.ts'
import { startServerProcess } from '../processes.ts'
import { CampaignAgent, compileCache } from './agents.ts'
import type { FaultKind, PlannedFault } from './faults.ts'
import type { AgentRun } from './history.ts'
import { mountSmallDisk, type SmallDisk } from './small-disk.ts'

/** Room on the disk that can be filled, for what every server keeps, and for each task with its events, attempts and files. */
const DISK_BYTES = 192 * 1024 * 1024
const DISK_BYTES_A_TASK = 6 * 1024
const AGAIN_MS = 200
const STALE_AT_ONCE = 16

/** How long faults last, in milliseconds: from the shortest to the longest of a kind. */
const LASTS = {
  stop_agent: [200, 4_000],
  stop_agent_past_lease: [11_000, 14_000],
  stop_server_past_lease: [11_000, 13_000],
  black_hole: [500, 12_000],
  kill_agent_in_black_hole: [1_500, 5_000],
  fill_disk: [500, 2_500],
  down: [0, 1_500],
} as const

/** What a world is made for. */
interface WorldOptions {
  directory: string
  engine: 'sqlite' | 'postgres'
  tasks: number
}

/** A server, its agents and its database, as processes; and what can be done to them. */
export class CampaignWorld implements AsyncDisposable {
  readonly agents: CampaignAgent[] = []
  readonly #directory: string
  readonly #disk: SmallDisk | undefined
  readonly #postgres: Postgres | undefined
  readonly #databaseUrl: string | undefined
  #server: Child<ServerVerbs>
  #started: StartedServer | undefined
  #isServerBusy = false
  #isDatabaseBusy = false
  #isOver = false

  private constructor(
    { directory, tasks }: WorldOptions,
    postgres: Postgres | undefined,
    databaseUrl: string | undefined,
  ) {
    this.#directory = directory
    this.#postgres = postgres
    this.#databaseUrl = databaseUrl
    this.#disk = mountSmallDisk(join(directory, 'disk'), DISK_BYTES + tasks * DISK_BYTES_A_TASK)
    this.#server = this.#newServer()
  }

  static async start(options: WorldOptions, agents: number): Promise<CampaignWorld> {
    mkdirSync(options.directory, { recursive: true })
    const postgres = options.engine === 'postgres' ? await startPostgres() : undefined
    const world = new CampaignWorld(options, postgres, await postgres?.createDatabase('campaign'))
    try {
      await world.#startAll(agents)
      return world
    } catch (error) {
      await world[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Kinds of faults that cannot be done here. */
  get impossible(): FaultKind[] {
    return [
      ...(this.#disk === undefined ? (['fill_disk'] as const) : []),
      ...(this.#postgres === undefined ? (['kill_database'] as const) : []),
    ]
  }

  /** A client with an `sk-` key of the team. */
  async client(): Promise<Client> {
    const key = await (await this.owner()).call('POST /credentials', {
      body: { kind: 'integration', display_name: 'campaign' },
    })
    return createClient({ baseUrl: this.#running.control.controlUrl, token: key.raw_key })
  }

  /** A client of the team's owner. */
  async owner(): Promise<Client> {
    const { controlUrl, emailAddress, userPassword, teamId } = this.#running.control
    const { access_token } = await createClient({ baseUrl: controlUrl }).call('POST /auth/login', {
      body: { email_address: emailAddress, user_password: userPassword },
    })
    return createClient({ baseUrl: controlUrl, token: access_token, teamId })
  }

  get #running(): StartedServer {
    if (this.#started === undefined) throw new Error('the server was not started')
    return this.#started
  }

  /** Does one fault and undoes it. False when something else is under way with what it would hit. */
  async inflict({ kind, agent: at, extent }: PlannedFault): Promise<boolean> {
    const agent = this.agents[at]
    if (agent === undefined) throw new Error(`there is no agent ${at}`)
    switch (kind) {
      case 'cut_link':
        agent.relay.cutAll(extent < 0.5 ? 'rst' : 'fin')
        return true
      case 'kill_agent':
        return whileBusy(agent, async () => agent.signal('SIGKILL'))
      case 'stop_agent':
      case 'stop_agent_past_lease':
        return whileBusy(agent, async () => {
          agent.signal('SIGSTOP')
          await delay(lasting(kind, extent))
          agent.signal('SIGCONT')
        })
      case 'black_hole':
        return whileBusy(agent, async () => {
          agent.relay.blackHole()
          await delay(lasting(kind, extent))
          agent.relay.heal()
        })
      case 'kill_agent_in_black_hole':
        // Long enough for runs to end, and to be written down, while nobody hears of it.
        return whileBusy(agent, async () => {
          agent.relay.blackHole()
          await delay(lasting(kind, extent))
          agent.signal('SIGKILL')
          agent.relay.heal()
        })
      case 'duplicate_link':
        return whileBusy(agent, () => this.#writeStale(agent))
      case 'kill_server':
      case 'stop_server_past_lease':
        return this.#hitServer(kind, extent)
      case 'kill_database':
        return this.#killDatabase(extent)
      case 'fill_disk':
        return this.#fillDisk(extent)
    }
  }

  /** While work goes on: what was refused is counted in the end, when nothing else can be the reason. */
  async #writeStale(agent: CampaignAgent): Promise<void> {
    const stale = staleAttempts(this.agents.flatMap((each) => each.runs())).filter(
      (run) => run.agentId === agent.agentId,
    )
    await agent.dialTwice(stale.slice(-STALE_AT_ONCE).map(nameOf)).catch(() => {})
  }

  /** Has every attempt that was given to another reported once more by the agent that had it, now that all have ended. */
  async writeAllStale(): Promise<{ written: number; refused: number }> {
    const stale = staleAttempts(this.agents.flatMap((each) => each.runs()))
    let refused = 0
    for (const agent of this.agents) {
      await agent.retire()
      const own = stale.filter((run) => run.agentId === agent.agentId)
      for (let at = 0; at < own.length; at += STALE_AT_ONCE) {
        refused += await agent.dialTwice(own.slice(at, at + STALE_AT_ONCE).map(nameOf))
      }
    }
    return { written: stale.length, refused }
  }

  async #hitServer(kind: 'kill_server' | 'stop_server_past_lease', extent: number): Promise<boolean> {
    if (this.#isServerBusy) return false
    this.#isServerBusy = true
    try {
      if (kind === 'kill_server') {
        await this.#server[Symbol.asyncDispose]()
        await delay(lasting('down', extent))
        await this.#startServerAgain()
      } else {
        process.kill(this.#server.pid, 'SIGSTOP')
        await delay(lasting(kind, extent))
        process.kill(this.#server.pid, 'SIGCONT')
      }
      return true
    } finally {
      this.#isServerBusy = false
    }
  }

  async #killDatabase(extent: number): Promise<boolean> {
    if (this.#isDatabaseBusy || this.#postgres === undefined) return false
    this.#isDatabaseBusy = true
    try {
      if (extent < 0.7) await this.#postgres.kill()
      else await this.#postgres.crash()
      return true
    } finally {
      this.#isDatabaseBusy = false
    }
  }

  async #fillDisk(extent: number): Promise<boolean> {
    // A server that is started meanwhile would find no place for its lock.
    if (this.#isServerBusy || this.#disk === undefined) return false
    this.#isServerBusy = true
    try {
      this.#disk.fill()
      await delay(lasting('fill_disk', extent))
      return true
    } finally {
      this.#disk.free()
      this.#isServerBusy = false
    }
  }

  async #startAll(agents: number): Promise<void> {
    this.#started = await this.#server.call('start', this.#order())
    const owner = await this.owner()
    const { raw_key: agentKey } = await owner.call('POST /credentials', {
      body: { kind: 'agent', display_name: 'campaign' },
    })
    const { edgePort } = this.#started
    for (let at = 0; at < agents; at++) {
      const place = { agentId: `agent-${at}`, directory: this.#directory, agentKey, edgePort }
      this.agents.push(await CampaignAgent.start(place))
    }
  }

  /** As often as it takes: its database may be away, or its port still being given back. */
  async #startServerAgain(): Promise<void> {
    for (; !this.#isOver; await delay(AGAIN_MS)) {
      this.#server = this.#newServer()
      try {
        await this.#server.call('startAgain', this.#order())
        return
      } catch {
        await this.#server[Symbol.asyncDispose]()
      }
    }
  }

  #newServer(): Child<ServerVerbs> {
    return startServerProcess(join(this.#directory, 'server.log'), compileCache(this.#directory))
  }

  #order() {
    const edge = this.#started?.edgePort
    const control = this.#started && Number(new URL(this.#started.control.controlUrl).port)
    return {
      dataDir: join(this.#directory, 'disk', 'server'),
      logLevel: 'info' as const,
      ...(this.#databaseUrl !== undefined && { databaseUrl: this.#databaseUrl }),
      ...(edge !== undefined && control !== undefined && { ports: { control, edge } }),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true
    for (const agent of this.agents) await agent[Symbol.asyncDispose]()
    await this.#server[Symbol.asyncDispose]()
    await this.#postgres?.[Symbol.asyncDispose]()
    this.#disk?.[Symbol.dispose]()
  }
}

/** Attempts after which their task had another, as the journals tell. */
function staleAttempts(runs: readonly AgentRun[]): AgentRun[] {
  const accepted = runs.filter(({ what }) => what === 'accepted')
  const last = new Map<string, number>()
  for (const { taskId, fence } of accepted) last.set(taskId, Math.max(fence, last.get(taskId) ?? 0))
  return accepted.filter(({ taskId, fence }) => fence < (last.get(taskId) ?? 0))
}

function nameOf({ taskId, fence }: AgentRun): AttemptName {
  return { task_id: taskId, fence }
}

async function whileBusy(agent: CampaignAgent, work: () => Promise<void>): Promise<boolean> {
  if (agent.isBusy) return false
  agent.isBusy = true
  try {
    await work()
    return true
  } finally {
    agent.isBusy = false
  }
}

function lasting(kind: keyof typeof LASTS, extent: number): number {
  const [least, most] = LASTS[kind]
  return least + (most - least) * extent
}
