import { agentHello, type MachineKey } from '@cyberun/agent'
import { encodeLine, type Link, type LinkStream, lineEvents } from '@cyberun/link'
import {
  type AgentLine,
  type AgentTaskLine,
  type AssignLine,
  type AttemptName,
  parseServerTaskLine,
  type ServerTaskLine,
  type StreamTarget,
  TASK_LIMITS,
} from '@cyberun/protocol'
import { until } from '../../src/until.ts'
import { type AgentsWorld, dialAs, STATS } from '../agents/agents-world.ts'

/** One attempt at a scripted agent: says what the test tells it to, and keeps what the server says. */
export interface ScriptedAttempt {
  readonly name: AttemptName
  /** Undefined for one that was attached. */
  readonly line: AssignLine | undefined
  readonly stream: LinkStream
  /** What the server wrote, without `lease` lines. */
  readonly heard: ServerTaskLine[]
  readonly leases: number[]
  /** The server ended its side, or the stream was reset. */
  readonly isOver: boolean
  say(...lines: AgentTaskLine[]): void
  /** All in one piece, as they are. */
  write(text: string): void
  note(sequence: number, message?: string): void
  finish(sequence: number): void
  /** Waits for a line of this type. */
  hears<T extends ServerTaskLine['type']>(type: T): Promise<Extract<ServerTaskLine, { type: T }>>
  /** Waits until everything up to this number is acknowledged. */
  acknowledged(sequence: number): Promise<unknown>
  over(): Promise<unknown>
}

export interface ScriptedAgent {
  readonly id: string
  readonly link: Link
  readonly attempts: ScriptedAttempt[]
  /** Waits for the assignment after those that came before. */
  next(): Promise<ScriptedAttempt>
  attach(name: AttemptName, lastSequence: number, state?: 'running' | 'finished'): ScriptedAttempt
  open(target: StreamTarget): LinkStream
  tell(line: AgentLine): void
  /** The link is gone, as when a cable is cut: nothing is said. */
  lose(): Promise<void>
}

export interface ScriptedOptions {
  id?: string
  slots?: number
  tools?: readonly ('demo' | 'comfyui')[]
  labels?: readonly string[]
  running?: readonly AttemptName[]
  gpus?: readonly { device_name: string; vram_total: number }[]
  /** What becomes of a stream that the server opens; by default it is accepted. */
  onTask?: (stream: LinkStream) => void
}

/** Dials the world as an agent whose every line is up to the test. */
export async function scriptedAgent(
  world: Pick<AgentsWorld, 'gatewayUrl'>,
  key: string,
  machine: MachineKey,
  options: ScriptedOptions = {},
): Promise<ScriptedAgent> {
  const { id = 'gpu-1', slots = 1, tools = ['demo'], labels = [], running = [], gpus = [] } = options
  const attempts: ScriptedAttempt[] = []
  let taken = 0
  const systemStats = { ...STATS, gpu_devices: gpus.map((gpu) => ({ device_type: 'cuda', vram_free: 0, ...gpu })) }
  const offered = tools.map((type) => ({ type, version: '1' }))
  const facts = { agentId: id, labels, systemStats, slots, tools: offered, runningTasks: running }
  const link = await dialAs(
    world,
    key,
    (challenge) => agentHello(machine, facts, challenge),
    (stream) => {
      if (options.onTask) return void options.onTask(stream)
      scriptAttempt(stream, (attempt) => void attempts.push(attempt))
      stream.accept()
      return undefined
    },
  )
  const control = link.open(
    { target: { kind: 'control' }, priority: 'control' },
    lineEvents({ onLine() {}, onOverlong() {}, onOver() {} }, TASK_LIMITS.agentLineBytes),
  )
  return {
    id,
    link,
    attempts,
    async next() {
      const at = taken++
      await until(() => attempts.length > at)
      return attempts[at] as ScriptedAttempt
    },
    attach(name, last_sequence, state = 'running') {
      const stream = link.open({ target: { kind: 'task' }, priority: 'control' })
      const attempt = scriptAttempt(stream, undefined, name)
      attempt.say({ type: 'attach', ...name, tool_type: 'demo', last_sequence, state })
      return attempt
    },
    open: (target) => link.open({ target, priority: 'control' }),
    tell: (line) => void control.write(encodeLine(line)),
    async lose() {
      link.close({ code: 'transport', message: 'the cable is cut' })
      await link.closed
    },
  }
}

function scriptAttempt(
  stream: LinkStream,
  onAssign: ((attempt: ScriptedAttempt) => void) | undefined,
  attached?: AttemptName,
): ScriptedAttempt {
  const heard: ServerTaskLine[] = []
  const leases: number[] = []
  let isOver = false
  let line: AssignLine | undefined
  const attempt: ScriptedAttempt = {
    get name() {
      if (attached) return attached
      return { task_id: line?.task_id ?? '', fence: line?.fence ?? 0 }
    },
    get line() {
      return line
    },
    stream,
    heard,
    leases,
    get isOver() {
      return isOver
    },
    say: (...lines) => attempt.write(lines.map((said) => `${JSON.stringify(said)}\n`).join('')),
    write: (text) => void stream.write(Buffer.from(text)),
    note: (sequence, message = `note ${sequence}`) =>
      attempt.say({ type: 'event', sequence, event: { kind: 'note', message } }),
    finish: (sequence) =>
      attempt.say({ type: 'finished', sequence, outcome: { kind: 'completed', output: { answer: 42 } } }),
    async hears(type) {
      await until(() => heard.some((said) => said.type === type))
      return heard.find((said) => said.type === type) as never
    },
    acknowledged: (sequence) => until(() => heard.some((said) => said.type === 'ack' && said.sequence >= sequence)),
    over: () => until(() => isOver),
  }
  stream.listen({
    ...lineEvents(
      {
        onLine(text) {
          const said = parseServerTaskLine(text)
          if (said?.type === 'assign') {
            line = said
            onAssign?.(attempt)
          } else if (said?.type === 'lease') leases.push(said.remaining_ms)
          else if (said) heard.push(said)
        },
        onOverlong() {},
        onOver() {
          isOver = true
        },
      },
      TASK_LIMITS.serverLineBytes,
    ),
  })
  return attempt
}
