import { encodeLine, type Link, lineEvents } from '@cyberun/link'
import {
  AGENT_LIMITS,
  type AgentLine,
  FieldError,
  type InventoryLine,
  parseServerLine,
  type SystemStats,
  type ToolHealthReport,
} from '@cyberun/protocol'
import { latestWins } from './tasks/latest.ts'

export const HEARTBEAT_MS = 10_000
/** News go out at once, but no more often than this. */
const NEWS_MS = 200

/** What is told of the machine, and when. */
export interface MachineReport {
  systemStats(): SystemStats
  tools(): readonly ToolHealthReport[]
  freeSlots(): number
  /** Of what the machine has; told when it is another than before. */
  inventory(): readonly InventoryLine[]
  /** Calls back when something has changed that should be told at once; the returned function stops that. */
  onChange(tell: () => void): () => void
}

/** The control stream of one link: tells the server how this machine does, and whether the server still hears us. */
export interface Heartbeat {
  /** Sends one now. Resolves true when the server answered it within `withinMs`; false also when the link is over. */
  probe(withinMs: number): Promise<boolean>
}

/** Beats until the link closes, the first time at once. */
export function startHeartbeat(link: Link, machine: MachineReport): Heartbeat {
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
  const inventory = inventoryTeller(machine, (line) => stream.write(encodeLine(line)))
  const news = latestWins<void>(NEWS_MS, beat, () => performance.now())
  const unwatch = machine.onChange(() => news.offer())
  const timer = setInterval(() => {
    beat()
    inventory.allowAgain()
  }, HEARTBEAT_MS)
  // Also when the link closes. The control stream must not be what keeps a leaving link open.
  void link.goingAway.then(() => {
    stop()
    stream.end()
  })
  beat()

  function beat(): void {
    const line: AgentLine = {
      type: 'heartbeat',
      sequence: ++sequence,
      system_stats: machine.systemStats(),
      tools: machine.tools(),
      free_slots: machine.freeSlots(),
    }
    stream.write(encodeLine(line))
    inventory.tell()
  }

  function stop(): void {
    over = true
    clearInterval(timer)
    news.stop()
    unwatch()
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

/** Tells what the machine has when that has changed: at most once between two beats, as it may take 40 lines. */
function inventoryTeller(machine: MachineReport, send: (line: InventoryLine) => void) {
  let told = '[]'
  let isAllowed = true
  function tell(): void {
    const lines = machine.inventory()
    const text = JSON.stringify(lines)
    if (!isAllowed || text === told) return
    told = text
    isAllowed = false
    for (const line of lines) send(line)
  }
  return {
    tell,
    allowAgain() {
      isAllowed = true
      tell()
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
