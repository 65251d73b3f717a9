import { AGENT_LIMITS } from '@cyberun/protocol'
import type { Assignment, Decline, Outcome, Run, Tool, ToolDeps, ToolHealth, ToolOffer } from '../tool.ts'
import { type Activity, readActivity } from './activity.ts'
import { ComfyuiAttempt, type EngineMemory } from './attempt.ts'
import type { Engine, EngineLife } from './engine.ts'
import { Health } from './health.ts'
import { type Abilities, ComfyuiHttp, ComfyuiRefusal, ComfyuiSilence } from './http.ts'
import { refuseLargeInputs } from './inputs.ts'
import { Inventory } from './inventory.ts'
import { COMFYUI_TIMES, type ComfyuiSettings, type ComfyuiTimes } from './settings.ts'
import { ComfyuiSocket } from './socket.ts'
import { Supervisor } from './supervisor.ts'
import { Turns } from './turns.ts'
import { Watchdog } from './watchdog.ts'

/** What a test may put in the place of the real thing. */
export interface ComfyuiParts {
  readonly times?: Partial<ComfyuiTimes>
  readonly readActivity?: (port: number) => Promise<Activity | undefined>
}

/**
 * Runs graphs on a ComfyUI of this machine, one at a time: on one that runs already (`url`), or on one that it starts
 * and supervises (`start`). docs/comfyui.md has the rules it follows, and why.
 */
export function createComfyuiTool(settings: ComfyuiSettings, deps: ToolDeps, parts: ComfyuiParts = {}): Tool {
  return new ComfyuiTool(settings, deps, parts)
}

class ComfyuiTool implements Tool {
  readonly type = 'comfyui'
  readonly servicePort: number | undefined
  readonly #deps: ToolDeps
  readonly #settings: ComfyuiSettings
  readonly #http: ComfyuiHttp
  readonly #times: ComfyuiTimes
  readonly #turns = new Turns()
  readonly #watchdog: Watchdog
  readonly #health: Health
  readonly #supervisor: Supervisor | undefined
  readonly #memory: EngineMemory = { models: [] }
  #socket: ComfyuiSocket | undefined
  #abilities: Abilities | undefined
  #inventory: Inventory | undefined
  #wasUp = false

  constructor(settings: ComfyuiSettings, deps: ToolDeps, parts: ComfyuiParts) {
    this.#deps = deps
    this.#settings = settings
    this.#times = { ...COMFYUI_TIMES, ...parts.times }
    const url = settings.url ?? `http://127.0.0.1:${settings.start?.port}`
    this.#http = new ComfyuiHttp(url, this.#times.callMs)
    const now = deps.now
    this.#watchdog = new Watchdog({
      times: this.#times,
      stallMs: settings.stall_seconds * 1000,
      now,
    })
    const port = portOnThisMachine(url)
    this.servicePort = port
    const look = parts.readActivity ?? readActivity
    this.#health = new Health({
      http: this.#http,
      watchdog: this.#watchdog,
      turns: this.#turns,
      times: this.#times,
      now,
      readActivity: async () => (port === undefined ? undefined : look(port)),
    })
    this.#supervisor = settings.start === undefined ? undefined : new Supervisor(settings.start, deps)
  }

  async detect(signal: AbortSignal): Promise<ToolOffer | undefined> {
    this.#begin()
    try {
      const { stats } = await this.#knownAbilities(signal)
      this.#inventory = await Inventory.load(this.#http, signal)
      const version = stats.version.slice(0, AGENT_LIMITS.versionCharacters)
      return { version, labels: [], models: this.#inventory.models, nodeClasses: this.#inventory.nodeClasses }
    } catch (error) {
      if (error instanceof ComfyuiSilence || error instanceof ComfyuiRefusal) return undefined
      throw error
    }
  }

  async health(signal: AbortSignal): Promise<ToolHealth> {
    this.#begin()
    const down = this.#supervisor?.down()
    if (down !== undefined) {
      return this.#supervisor?.lastEnd === undefined ? { state: 'starting' } : { state: 'unhealthy', reason: down }
    }
    const health = await this.#health.ask(signal)
    if (health.state === 'ready') this.#wasUp = true
    // Reading its nodes takes a fresh ComfyUI a while, in which it does not answer.
    return this.#supervisor !== undefined && !this.#wasUp && health.state === 'unhealthy'
      ? { state: 'starting' }
      : health
  }

  async check(assignment: Assignment, signal: AbortSignal): Promise<Decline | undefined> {
    const reason = this.#supervisor?.down() ?? this.#health.known
    if (reason !== undefined) return { reason: 'tool_unhealthy', message: reason }
    try {
      const { maxUploadBytes } = await this.#knownAbilities(signal)
      this.#inventory ??= await Inventory.load(this.#http, signal)
      return (
        (await this.#inventory.check(assignment, this.#http, signal)) ??
        refuseLargeInputs(assignment, maxUploadBytes, this.#settings.folder)
      )
    } catch (error) {
      if (!(error instanceof ComfyuiSilence || error instanceof ComfyuiRefusal)) throw error
      return { reason: 'tool_unhealthy', message: `${error.message}.` }
    }
  }

  async run(run: Run, signal: AbortSignal): Promise<Outcome> {
    const outcome = await this.#inTurn(run, signal, (attempt) => attempt.start())
    return outcome ?? { kind: 'cancelled' }
  }

  async resume(run: Run, signal: AbortSignal): Promise<Outcome | undefined> {
    return this.#inTurn(run, signal, (attempt) => attempt.resume())
  }

  async stop(): Promise<void> {
    this.#health.stop()
    this.#socket?.stop()
    await this.#supervisor?.stop()
  }

  /** Undefined when the run was cancelled before its turn came. */
  async #inTurn(
    run: Run,
    signal: AbortSignal,
    work: (attempt: ComfyuiAttempt) => Promise<Outcome | undefined>,
  ): Promise<Outcome | undefined> {
    const socket = this.#begin()
    const giveBack = await this.#turns.take(signal, (position) => run.waitingInTool(position))
    if (giveBack === undefined) return undefined
    try {
      return await work(new ComfyuiAttempt(this.#engine(socket), run, this.#memory, signal))
    } finally {
      giveBack()
    }
  }

  #engine(socket: ComfyuiSocket): Engine {
    return {
      http: this.#http,
      socket,
      watchdog: this.#watchdog,
      settings: this.#settings,
      times: this.#times,
      log: this.#deps.log,
      now: this.#deps.now,
      abilities: (signal) => this.#knownAbilities(signal),
      life: () => this.#supervisor?.life ?? SOMEBODY_ELSES,
      doubt: () => this.#health.demandProof(),
      restart: async (reason, cure) => {
        if (this.#supervisor === undefined) {
          this.#deps.log.warn({ reason }, 'comfyui.needs_restart')
          this.#health.condemn(reason, cure)
        } else {
          this.#wasUp = false
          await this.#supervisor.restart(reason)
          this.#health.reborn()
        }
      },
    }
  }

  /** Starts what lives as long as the tool: ComfyUI, if it is ours, and the socket. */
  #begin(): ComfyuiSocket {
    this.#supervisor?.begin()
    this.#socket ??= this.#openSocket()
    return this.#socket
  }

  #openSocket(): ComfyuiSocket {
    const { log, now } = this.#deps
    const socket = new ComfyuiSocket({
      url: this.#http.url,
      times: this.#times,
      log,
      now,
      onOpen: (clientId) => {
        const signal = AbortSignal.timeout(this.#times.callMs)
        this.#http.readLogs(clientId, signal).catch((error: unknown) => log.debug({ error }, 'comfyui.no_logs'))
      },
    })
    socket.listen(({ kind }) => {
      if (kind !== 'closed') return
      // It may have been started anew, as another version, with other nodes and models.
      this.#abilities = undefined
      this.#inventory = undefined
      this.#memory.models = []
      this.#health.reborn()
    })
    return socket
  }

  async #knownAbilities(signal: AbortSignal): Promise<Abilities> {
    this.#abilities ??= await this.#http.abilities(signal)
    return this.#abilities
  }
}

/** Of the end of a process that is not ours nobody tells. */
const SOMEBODY_ELSES: EngineLife = { end: undefined }

/** The port of a ComfyUI whose process can be looked at; undefined for one elsewhere. */
function portOnThisMachine(url: string): number | undefined {
  const { hostname, port, protocol } = new URL(url)
  if (!['localhost', '127.0.0.1', '[::1]'].includes(hostname)) return undefined
  return Number(port || (protocol === 'https:' ? 443 : 80))
}
