import { TERMINAL_STATUSES } from '@cyberun/api'
import { encodeLine, type LinkStream, lineEvents } from '@cyberun/link'
import { type AgentTaskLine, FieldError, parseAgentTaskLine, type ServerTaskLine, TASK_LIMITS } from '@cyberun/protocol'
import type { Attempt, ChangeAnswer } from '../model/attempt.ts'
import { attachAttempt } from '../store/attempts.ts'
import { type AgentSeat, attemptKey } from './agent-seat.ts'
import { AttemptStream } from './attempt-stream.ts'
import type { DispatchContext } from './context.ts'

/**
 * Serves the task streams that agents open: each names an attempt that the agent still has (docs/protocol.md, "A lost
 * link"). A stream that is reset is, for the agent, one to open again later.
 */
export class Attachments {
  readonly #context: DispatchContext
  /** Streams that are not answered yet, with their agents. */
  readonly #opening = new Map<LinkStream, AgentSeat>()
  #isStopped = false

  constructor(context: DispatchContext) {
    this.#context = context
  }

  serve(stream: LinkStream, seat: AgentSeat): void {
    const { limits } = this.#context
    if (this.#isStopped || seat.attempts.size + this.#countOf(seat) >= limits.streamsPerAgent) {
      stream.reset('refused')
      return
    }
    this.#opening.set(stream, seat)
    const forget = (): void => void this.#opening.delete(stream)
    const refuse = (): void => {
      stream.reset('refused')
      forget()
    }
    let isRead = false
    stream.listen(
      lineEvents(
        {
          onLine: (text) => {
            const name = isRead ? undefined : attachLine(text)
            isRead = true
            if (name) this.#context.run('attempt.not_attached', () => this.#attach(seat, stream, name))
            else refuse()
          },
          onOverlong: refuse,
          onOver: () => {
            forget()
            // Nobody answers it any more: unless this side ends, too, the link carries it for good.
            stream.end()
          },
        },
        TASK_LIMITS.agentLineBytes,
      ),
    )
    stream.accept()
  }

  /** Answers no stream from here on. */
  stop(): void {
    this.#isStopped = true
    for (const stream of [...this.#opening.keys()]) stream.reset('refused')
    this.#opening.clear()
  }

  async #attach(seat: AgentSeat, stream: LinkStream, name: AttachLine): Promise<void> {
    const { store, gatewayId } = this.#context
    const { teamId, agentId } = seat
    const attempt: Attempt = { taskId: name.task_id, teamId, agentId, fence: name.fence }
    try {
      const answer = await attachAttempt(store, attempt, gatewayId)
      // Its link may be gone by now, or this server be stopping. What is not answered is still to be attached.
      if (this.#opening.has(stream)) {
        seat.expectNoMore(attemptKey(attempt))
        this.#answer(seat, stream, attempt, answer, name.expose_port)
      }
    } catch (error) {
      stream.reset('internal')
      throw error
    } finally {
      this.#opening.delete(stream)
      this.#context.wake(teamId)
    }
  }

  #answer(seat: AgentSeat, stream: LinkStream, attempt: Attempt, answer: ChangeAnswer, exposePort?: number): void {
    const { seats, host, bus, log } = this.#context
    const { teamId, agentId } = seat
    const ids = { task_id: attempt.taskId, team_id: teamId, agent_id: agentId, fence: attempt.fence }
    log.info({ ...ids, outcome: answer.kind }, 'attempt.attached')
    // By its seat: nobody else's attempt is touched, whatever name an agent sends.
    seat.attempts.get(attemptKey(attempt))?.drop()
    if (answer.kind !== 'stored') {
      endWith(stream, { type: 'late' })
      return
    }
    const { acknowledged } = answer
    if (TERMINAL_STATUSES.includes(answer.status)) {
      // Its last word is stored, only the acknowledgement was lost.
      endWith(stream, { type: 'attached', acknowledged, over: true })
      return
    }
    const attached = new AttemptStream(host, {
      ...{ attempt, stream, acknowledged },
      ...(exposePort !== undefined && { exposePort }),
    })
    seats.hold(seat, attached)
    attached.attached()
    bus.publish('task.changed', { taskId: attempt.taskId })
  }

  #countOf(seat: AgentSeat): number {
    let count = 0
    for (const owner of this.#opening.values()) if (owner === seat) count++
    return count
  }
}

function endWith(stream: LinkStream, line: ServerTaskLine): void {
  stream.write(encodeLine(line))
  stream.end()
}

type AttachLine = Extract<AgentTaskLine, { type: 'attach' }>

function attachLine(text: string): AttachLine | undefined {
  try {
    const line = parseAgentTaskLine(text)
    return line?.type === 'attach' ? line : undefined
  } catch (error) {
    if (error instanceof FieldError) return undefined
    throw error
  }
}
