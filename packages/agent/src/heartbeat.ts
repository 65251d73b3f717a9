import { encodeLine, type Link, lineEvents } from '@cyberun/link'
import { AGENT_LIMITS, type AgentLine, FieldError, parseServerLine, type SystemStats } from '@cyberun/protocol'

export const HEARTBEAT_MS = 10_000

/** The control stream of one link: tells the server how this machine does, and whether the server still hears us. */
export interface Heartbeat {
  /** Sends one now. Resolves true when the server answered it within `withinMs`; false also when the link is over. */
  probe(withinMs: number): Promise<boolean>
}

/** Beats until the link closes, the first time at once. */
export function startHeartbeat(link: Link, readStats: () => SystemStats): Heartbeat {
  let sequence = 0
  let answered = 0
  let over = false
  const waiting = new Set<() => void>()
  const wakeAll = (): void => {
    for (const wake of [...waiting]) wake()
  }

  const stream = link.open(
    { target: { kind: 'control' }, priority: 'control' },
    lineEvents(
      {
        onLine(line) {
          answered = Math.max(answered, answerOf(line))
          wakeAll()
        },
        onOverlong: () => stream.reset('flow_control'),
        onOver: stop,
      },
      AGENT_LIMITS.controlLineBytes,
    ),
  )
  // A server that refuses the control stream still carries tunnels; it only shows an older heartbeat.
  stream.accepted.catch(stop)
  const timer = setInterval(beat, HEARTBEAT_MS)
  // Also when the link closes. The control stream must not be what keeps a leaving link open.
  void link.goingAway.then(() => {
    stop()
    stream.end()
  })
  beat()

  function beat(): void {
    const line: AgentLine = { type: 'heartbeat', sequence: ++sequence, system_stats: readStats() }
    stream.write(encodeLine(line))
  }

  function stop(): void {
    over = true
    clearInterval(timer)
    wakeAll()
  }

  return {
    probe(withinMs) {
      if (over) return Promise.resolve(false)
      beat()
      const mine = sequence
      return new Promise((resolve) => {
        const finish = (): void => {
          clearTimeout(patience)
          waiting.delete(look)
          resolve(answered >= mine)
        }
        const look = (): void => {
          if (answered >= mine || over) finish()
        }
        const patience = setTimeout(finish, withinMs)
        waiting.add(look)
      })
    },
  }
}

/** The heartbeat that a line of the server answers; 0 for a line that answers none. */
function answerOf(line: string): number {
  try {
    return parseServerLine(line)?.sequence ?? 0
  } catch (error) {
    if (error instanceof FieldError) return 0
    throw error
  }
}
