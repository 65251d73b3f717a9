import { ApiError, routes } from '@cyberun/api'
import type { Log } from '@cyberun/link/log'
import type { Bus } from '../bus.ts'
import type { Attempt } from '../model/attempt.ts'
import { remarkOnAttempt } from '../store/attempts.ts'
import { type Exposure, findExposure, stillExposed } from '../store/exposures.ts'
import type { Store } from '../store/store.ts'
import type { OpenTunnel } from './open-tunnel.ts'
import { PRESENCE_LIMITS } from './presence.ts'
import { Sweeps } from './sweeps.ts'
import type { TunnelCaller } from './tunnel-audit.ts'
import type { Tunnels } from './tunnels.ts'

export const EXPOSER_LIMITS = {
  /** How long a run has until its service must listen: models may have to be loaded first. */
  waitMs: 600_000,
  /** Between two tries to reach it. */
  againMs: 500,
  /** How often tasks that are over and tabs that were closed are looked for. */
  sweepMs: 1_000,
  /** How long a tunnel of a task may go unused before any browser has come. */
  idleSeconds: 86_400,
} as const

export interface ExposerOptions {
  store: Store
  bus: Bus
  log: Log
  now: () => number
  /** The runs whose agents say that they have a service. */
  dispatch: { exposed(): { attempt: Attempt; port: number }[] }
  tunnels: Pick<Tunnels, 'open' | 'ofTasks' | 'endOfTask'>
}

/**
 * Opens a tunnel to the service of each run that has one, once it listens, and closes it with the run, or when its last
 * browser tab has been closed for `PRESENCE_LIMITS.awayMs`. What is exposed is read from dispatch and the store each time,
 * so a restart of this server or of an agent needs nothing of its own.
 */
export class Exposer {
  readonly #options: ExposerOptions
  /** By task and fence: those whose service is being waited for, or was dealt with. An attempt is dealt with once. */
  readonly #exposing = new Map<string, AbortController>()
  /** Those that a browser has been on. One that was revoked begins anew: nobody has its new address yet. */
  readonly #watched = new WeakSet<OpenTunnel>()
  readonly #releases: (() => void)[]
  /** What is under way: `stop` waits for it. */
  readonly #work = new Set<Promise<void>>()
  readonly #sweeps = new Sweeps(() => this.#closeWhatIsOver())

  constructor(options: ExposerOptions) {
    this.#options = options
    const timer = setInterval(() => this.#run('expose.sweep_failed', () => this.sweep()), EXPOSER_LIMITS.sweepMs)
    timer.unref()
    this.#releases = [
      () => clearInterval(timer),
      options.bus.subscribe('task.changed', ({ taskId }) => this.#changed(taskId)),
    ]
  }

  /**
   * Looks once, at a time after this call, for runs to expose, for tunnels whose run is over, and for those whose tabs were
   * closed.
   */
  sweep(): Promise<void> {
    this.#look()
    return this.#sweeps.ask()
  }

  async stop(): Promise<void> {
    for (const release of this.#releases.splice(0)) release()
    for (const end of this.#exposing.values()) end.abort()
    await Promise.all(this.#work)
  }

  #changed(taskId: string): void {
    const { tunnels } = this.#options
    this.#look()
    if (tunnels.ofTasks().some(({ facts }) => facts.taskId === taskId)) {
      this.#run('expose.sweep_failed', () => this.sweep())
    }
  }

  /** Begins with the runs that are new, and leaves those that are no more. */
  #look(): void {
    const running = new Set<string>()
    for (const { attempt, port } of this.#options.dispatch.exposed()) {
      const key = `${attempt.taskId} ${attempt.fence}`
      running.add(key)
      if (this.#exposing.has(key)) continue
      const end = new AbortController()
      this.#exposing.set(key, end)
      this.#run('expose.failed', async () => {
        let isDone = false
        try {
          isDone = await this.#expose(attempt, port, end.signal)
        } finally {
          if (!isDone && this.#exposing.get(key) === end) this.#exposing.delete(key)
        }
      })
    }
    for (const [key, end] of this.#exposing) {
      if (running.has(key)) continue
      end.abort()
      this.#exposing.delete(key)
    }
  }

  /** Whether the attempt is dealt with; otherwise the next look begins anew. */
  async #expose(attempt: Attempt, port: number, signal: AbortSignal): Promise<boolean> {
    const { store, log } = this.#options
    const exposure = await findExposure(store, attempt)
    // Its agent said so a moment ago, and that it runs is still being stored.
    if (!exposure) return false
    // It had its tunnel: that is still open, or somebody or its last tab has closed it.
    if (exposure.openedFence === attempt.fence) return true
    const failure = await this.#openWhenReady(attempt, port, exposure, signal)
    if (signal.aborted) return true
    const ids = { task_id: attempt.taskId, team_id: attempt.teamId, agent_id: attempt.agentId, target_port: port }
    if (failure) log.warn({ ...ids, hint: failure.message }, 'expose.not_opened')
    const message = failure
      ? `its service has no tunnel: ${failure.message}`
      : 'its service can be reached: the tunnel_url of the task leads to it'
    await remarkOnAttempt(store, attempt, message)
    this.#options.bus.publish('task.changed', { taskId: attempt.taskId })
    return true
  }

  /** Tries until the service listens. Returns why there is no tunnel, or nothing when there is one. */
  async #openWhenReady(
    attempt: Attempt,
    port: number,
    exposure: Exposure,
    signal: AbortSignal,
  ): Promise<Error | undefined> {
    const { tunnels, now } = this.#options
    const until = now() + EXPOSER_LIMITS.waitMs
    const request = routes['POST /agents/{agentId}/tunnel'].body.parse({
      target_port: port,
      tunnel_protocol: exposure.protocol,
      idle_timeout_s: EXPOSER_LIMITS.idleSeconds,
    })
    while (!signal.aborted) {
      try {
        await tunnels.open(callerOf(exposure), attempt.teamId, attempt.agentId, request, signal, attempt)
        return undefined
      } catch (error) {
        if (signal.aborted) return undefined
        if (!(error instanceof ApiError)) throw error
        if (!MAY_COME.has(error.code)) return error
        if (now() >= until) return new Error(`nothing listened on port ${port} of ${attempt.agentId} within 10 minutes`)
      }
      await pause(EXPOSER_LIMITS.againMs, signal)
    }
    return undefined
  }

  async #closeWhatIsOver(): Promise<void> {
    const { store, tunnels, now } = this.#options
    const open = tunnels.ofTasks()
    const taskIds = open.map(({ facts }) => facts.taskId).filter((id) => id !== null)
    const running = await stillExposed(store, taskIds)
    for (const tunnel of open) {
      if (!running.has(tunnel.facts.taskId ?? '')) await tunnels.endOfTask(tunnel, 'task_over')
      else if (this.#isLeft(tunnel, now())) await tunnels.endOfTask(tunnel, 'tabs_closed')
    }
  }

  /** Whether a browser was here, and none has been seen since a while. Programs that are no browsers do not count. */
  #isLeft(tunnel: OpenTunnel, now: number): boolean {
    const viewers = tunnel.presence.list(now, PRESENCE_LIMITS.viewers)
    const isHere = viewers.some(({ userAgent }) => userAgent.startsWith('Mozilla/'))
    if (isHere) this.#watched.add(tunnel)
    return !isHere && this.#watched.has(tunnel)
  }

  #run(event: string, work: () => Promise<void>): void {
    const running = work()
      .catch((error: unknown) => this.#options.log.warn({ error }, event))
      .finally(() => this.#work.delete(running))
    this.#work.add(running)
  }
}

/** What may be otherwise in a moment: nobody listens yet, or the agent is between two links. */
const MAY_COME: ReadonlySet<string> = new Set(['target_refused', 'timeout', 'agent_offline', 'unavailable'])

/** The right that the run was submitted with is the one its tunnel stands on. */
function callerOf({ userId, credentialId, familyId }: Exposure): TunnelCaller {
  return {
    userId,
    ...(credentialId !== null && { credentialId }),
    ...(familyId !== null && { familyId }),
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms)
    function done(): void {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    signal.addEventListener('abort', done, { once: true })
  })
}
