import type { LinkStream } from '@cyberun/link'
import { type CloseReason, unreachable } from '@cyberun/protocol'
import type { AgentConnection } from '../agents/types.ts'
import type { Attempt } from '../model/attempt.ts'
import { saveProgress } from '../store/attempts.ts'
import { claimTasks, type Takers } from '../store/claims.ts'
import { Tally } from '../tally.ts'
import { Assigner } from './assigner.ts'
import { Attachments } from './attachments.ts'
import { type AttemptEnd, describeEnd } from './attempt-states.ts'
import type { AttemptHost, AttemptStream } from './attempt-stream.ts'
import { CatchUp } from './catch-up.ts'
import type { DispatchContext } from './context.ts'
import { giveUp } from './give-up.ts'
import { DISPATCH_LIMITS } from './limits.ts'
import { Placements } from './placements.ts'
import { Seats } from './seats.ts'
import { createTeamClaims, type TeamClaims } from './team-claims.ts'
import type { Dispatch, DispatchCounts, DispatchOptions } from './types.ts'
import { renewHeld, sweep } from './upkeep.ts'

/** Starts taking tasks to the agents that come. */
export function createDispatch(options: DispatchOptions): Dispatch {
  return new DispatchHere(options)
}

class DispatchHere implements Dispatch {
  readonly #files: DispatchOptions['files']
  readonly #context: DispatchContext
  readonly #seats: Seats
  readonly #assigner: Assigner
  readonly #placements: Placements
  readonly #attachments: Attachments
  readonly #catchUp: CatchUp
  /** Of each team that had an agent here. */
  readonly #claims = new Map<string, TeamClaims>()
  readonly #timers: NodeJS.Timeout[]
  readonly #unsubscribe: (() => void)[]
  /** What is under way: `stop` waits for it. */
  readonly #work = new Set<Promise<void>>()
  #isStopping = false

  constructor(options: DispatchOptions) {
    const { store, bus, log, now, gatewayId, agents } = options
    const limits = { ...DISPATCH_LIMITS, ...options.limits }
    this.#files = options.files
    this.#seats = new Seats(now, { stallMs: limits.stallMs, pauseMs: limits.declinePauseMs }, (teamId, agentId) =>
      agents.hasTunnel(teamId, agentId),
    )
    this.#context = {
      ...{ store, bus, log, now, gatewayId, limits, seats: this.#seats },
      over: new Tally(),
      host: this.#attemptHost(options, limits),
      wake: (teamId) => this.wake(teamId),
      run: (event, work) => this.#run(event, work),
    }
    this.#assigner = new Assigner(this.#context)
    this.#placements = new Placements(this.#context, this.#assigner)
    this.#attachments = new Attachments(this.#context)
    this.#catchUp = new CatchUp(this.#context)
    this.#timers = [
      setInterval(
        this.#oneAtATime('dispatch.sweep_failed', async () => {
          await sweep(this.#context)
          await this.#catchUp.all()
        }),
        limits.sweepMs,
      ),
      setInterval(
        this.#oneAtATime('dispatch.renewal_failed', () => renewHeld(this.#context)),
        limits.renewMs,
      ),
    ]
    this.#unsubscribe = [
      bus.subscribe('task.submitted', ({ teamId }) => this.wake(teamId)),
      bus.subscribe('task.cancelled', (attempt) => this.cancel(attempt)),
    ]
  }

  wake(teamId: string): void {
    if (!this.#isStopping) this.#claims.get(teamId)?.wake()
  }

  submit: Dispatch['submit'] = (task) => this.#placements.submit(task)
  cancel: Dispatch['cancel'] = (attempt) => this.#seats.attempt(attempt)?.cancel()
  situations: Dispatch['situations'] = (teamId) => this.#seats.situations(teamId)
  isStalled: Dispatch['isStalled'] = (teamId, agentId) => this.#seats.isStalled(teamId, agentId)
  tunnelChanged: Dispatch['tunnelChanged'] = (teamId) => this.wake(teamId)

  tasksOf(teamId: string, agentId: string): readonly string[] {
    return [...(this.#seats.find(teamId, agentId)?.attempts.values() ?? [])].map(({ attempt }) => attempt.taskId)
  }

  exposed(): { attempt: Attempt; port: number }[] {
    const found: { attempt: Attempt; port: number }[] = []
    for (const { attempt, exposePort, state } of this.#seats.attempts) {
      if (exposePort !== undefined && state === 'running') found.push({ attempt, port: exposePort })
    }
    return found
  }

  get counts(): DispatchCounts {
    let unstored = 0
    for (const attempt of this.#seats.attempts) unstored += attempt.unstored
    return { attempts: this.#seats.attemptCount, unstored, over: this.#context.over }
  }

  linked(agent: AgentConnection): void {
    if (this.#isStopping) return
    const { teamId, record } = agent
    const seat = this.#seats.take(teamId, record.hello.agent_id)
    seat.seated(agent)
    if (!this.#claims.has(teamId)) {
      const { claimGapMs } = this.#context.limits
      this.#claims.set(
        teamId,
        createTeamClaims(claimGapMs, () => this.#claim(teamId)),
      )
    }
    this.#run('dispatch.reconciliation_failed', () => this.#catchUp.one(seat))
  }

  unlinked(agent: AgentConnection, reason: CloseReason): void {
    const seat = this.#seats.find(agent.teamId, agent.record.hello.agent_id)
    if (!seat) return
    seat.left(agent)
    // Whoever may not come back keeps nothing.
    if (reason.code === 'revoked' && seat.connection === undefined) {
      const why = { cause: 'agent_lost', message: reason.message } as const
      for (const { attempt } of [...seat.attempts.values()]) giveUp(this.#context, attempt, why)
    }
    this.#seats.leave(seat)
  }

  reported(agent: AgentConnection, what: 'heartbeat' | 'inventory'): void {
    const { teamId, record } = agent
    const seat = this.#seats.find(teamId, record.hello.agent_id)
    if (seat?.connection !== agent) return
    if (record.freeSlots !== 0) seat.pausedUntil = 0
    if (what === 'inventory') {
      seat.offersNews = true
      this.#run('dispatch.refusals_not_cleared', () => this.#catchUp.one(seat))
    } else this.wake(teamId)
  }

  serveStream(stream: LinkStream, agent: AgentConnection): void {
    const { teamId } = agent
    const { agent_id: agentId } = agent.record.hello
    const seat = this.#seats.find(teamId, agentId)
    const { target } = stream.init
    switch (target.kind) {
      case 'task':
        if (seat?.connection === agent) this.#attachments.serve(stream, seat)
        else stream.reset('refused')
        return
      case 'artifact':
        this.#files.serveArtifactStream(stream, { teamId, agentId })
        return
      case 'input':
        this.#files.serveInputStream(stream, { teamId, agentId })
        return
      case 'tcp':
      case 'control':
      case 'echo':
      case 'terminal':
        stream.reset('unsupported')
        return
      default:
        unreachable(target)
    }
  }

  async stop(signal: AbortSignal): Promise<void> {
    this.#isStopping = true
    for (const timer of this.#timers) clearInterval(timer)
    for (const end of this.#unsubscribe) end()
    for (const claims of this.#claims.values()) claims.stop()
    this.#attachments.stop()
    await Promise.race([this.#finish(), aborted(signal)])
    for (const attempt of [...this.#seats.attempts]) attempt.drop()
  }

  /** Stores what is there to be stored, and gives the agents their whole window to find a server again. */
  async #finish(): Promise<void> {
    await Promise.all(this.#work)
    await Promise.all([...this.#seats.attempts].map((attempt) => attempt.settled()))
    await renewHeld(this.#context).catch((error: unknown) => {
      this.#context.log.warn({ error }, 'dispatch.renewal_failed')
    })
  }

  #attemptHost({ store, bus, log, now }: DispatchOptions, limits: AttemptHost['limits']): AttemptHost {
    return {
      ...{ store, log, now, limits },
      onDeclined: ({ teamId, agentId }, reason) => {
        if (reason === 'no_slot' || reason === 'tool_unhealthy') this.#seats.pause(teamId, agentId)
      },
      onStored: ({ taskId }) => bus.publish('task.changed', { taskId }),
      onLive: ({ taskId }, event) => bus.publish('task.live', { taskId, event }),
      onProgress: (attempt, progress) =>
        this.#run('attempt.progress_not_saved', () => saveProgress(store, attempt, progress)),
      onOver: (attempt, end) => this.#onOver(attempt, end),
    }
  }

  #onOver(attempt: AttemptStream, end: AttemptEnd): void {
    const { taskId, teamId, agentId, fence } = attempt.attempt
    const seat = this.#seats.release(attempt)
    const told = describeEnd(end)
    this.#context.over.add(told.end)
    this.#context.log.info({ task_id: taskId, team_id: teamId, agent_id: agentId, fence, ...told }, 'attempt.over')
    switch (end.kind) {
      case 'settled':
        if (end.completed && seat?.connection) seat.connection.record.tasksCompleted += 1
        break
      case 'refused':
        this.#seats.stall(teamId, agentId)
        giveUp(this.#context, attempt.attempt, {
          cause: 'not_sent',
          message: `${agentId} took no stream for it`,
        })
        break
      case 'faulty':
        this.#seats.stall(teamId, agentId)
        giveUp(this.#context, attempt.attempt, { cause: 'agent_faulty', message: `${agentId}: ${end.message}` })
        break
      case 'declined':
      case 'cancelled':
      case 'late':
      case 'dropped':
        break
      default:
        unreachable(end)
    }
    if (seat) this.#seats.leave(seat)
    this.wake(teamId)
  }

  /** True when there may be more to claim at once. Never rejects. */
  async #claim(teamId: string): Promise<boolean> {
    const { store, gatewayId, log, limits } = this.#context
    const { ackMs, claimsAtOnce: limit } = limits
    const takers: Takers = {
      free: () => this.#seats.free(teamId),
      hold: (agents) => this.#seats.promise(teamId, agents),
      take: (task) => this.#run('attempt.not_assigned', () => this.#assigner.assign(task)),
    }
    try {
      return (await claimTasks(store, { teamId, gatewayId, takers, ackMs, limit })) === limit
    } catch (error) {
      // Should some have been claimed all the same: nobody acknowledges them in time, and they go back.
      log.warn({ error, team_id: teamId }, 'dispatch.claim_failed')
      return false
    }
  }

  #run(event: string, work: () => Promise<void>): void {
    const running = work()
      .catch((error: unknown) => this.#context.log.warn({ error }, event))
      .finally(() => this.#work.delete(running))
    this.#work.add(running)
  }

  /** The work, unless it is still under way. */
  #oneAtATime(event: string, work: () => Promise<void>): () => void {
    let isBusy = false
    return () => {
      if (isBusy) return
      isBusy = true
      this.#run(event, () =>
        work().finally(() => {
          isBusy = false
        }),
      )
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
