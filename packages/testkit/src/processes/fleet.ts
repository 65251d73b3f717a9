import { Agent, request } from 'node:http'
import { agentHello, temporaryMachineKey } from '@cyberun/agent'
import { dialLink, encodeLine, type LinkStream, lineEvents, type StreamEvents } from '@cyberun/link'
import { type AgentTaskLine, type AssignLine, parseServerTaskLine, TASK_LIMITS } from '@cyberun/protocol'
import { answerParent } from '../child.ts'

/**
 * Agents that run the demo tool's echo without a disk, and clients that submit runs, in one process, so that both read the
 * same clock.
 */
export interface FleetVerbs {
  /** Resolves when `agents` agents of one slot each are linked. */
  dial(order: { gatewayUrl: string; agentKey: string; agents: number }): Promise<void>
  /** Submits runs of the workflow at an even rate; for each, the milliseconds until an agent had it. */
  submitEvenly(order: ApiOrder & { perSecond: number; seconds: number }): Promise<number[]>
  /** Submits so many runs as fast as `clients` clients can; the seconds from the first until the last was stored as completed. */
  submitAll(order: ApiOrder & { tasks: number; clients: number }): Promise<number>
  /**
   * Follows one run with so many clients while its agent writes `lines` lines, `everyMs` apart; for each line and client,
   * the milliseconds from writing to reading it.
   */
  watch(order: ApiOrder & { watchers: number; lines: number; everyMs: number }): Promise<number[]>
  /** Cancels so many runs, one after the other; for each, the milliseconds from the call to its agent's answer. */
  cancel(order: ApiOrder & { times: number }): Promise<number[]>
}

interface ApiOrder {
  controlUrl: string
  /** An `sk-` key of the team. */
  apiKey: string
  workflowSlug: string
}

const NO_STATS = { comfyui_version: null, pytorch_version: null, os_type: 'linux', gpu_devices: [] }
const CONNECTIONS = 32

const machine = temporaryMachineKey()
/** When each task came to an agent, and when one was told to cancel it. */
const assignedAt = new Map<string, number>()
const cancelledAt = new Map<string, number>()
let completed = 0
let onProgress = (): void => {}
/** What an agent does with a task that it has accepted. */
let work: (attempt: Attempt) => void = echo

interface Attempt {
  assign: AssignLine
  say(line: AgentTaskLine): void
}

function echo({ assign, say }: Attempt): void {
  say({ type: 'finished', sequence: 1, outcome: { kind: 'completed', output: assign.parameters } })
}

function serveTask(stream: LinkStream): StreamEvents {
  const say = (line: AgentTaskLine): void => void stream.write(encodeLine(line))
  stream.accept()
  let lastAck = 0
  let taskId = ''
  return lineEvents(
    {
      onLine(text) {
        const line = parseServerTaskLine(text)
        if (line?.type === 'assign') {
          assignedAt.set(line.task_id, performance.now())
          say({ type: 'accepted' })
          work({ assign: line, say })
          onProgress()
          taskId = line.task_id
        } else if (line?.type === 'cancel') {
          say({ type: 'cancelling' })
          cancelledAt.set(taskId, performance.now())
          say({ type: 'finished', sequence: 1, outcome: { kind: 'cancelled' } })
          onProgress()
        } else if (line?.type === 'ack') lastAck = line.sequence
      },
      onOverlong() {},
      onOver() {
        stream.end()
        if (lastAck > 0) completed++
        onProgress()
      },
    },
    TASK_LIMITS.serverLineBytes,
  )
}

function until(condition: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!condition()) return
      onProgress = () => {}
      resolve()
    }
    onProgress = look
    look()
  })
}

const connections = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })

async function submit(api: ApiOrder): Promise<string> {
  const run = { parameters: { text: 'hello' } }
  const { task_id: taskId } = await post(api, `r/workflows/slug/${api.workflowSlug}/run`, run)
  if (taskId === undefined) throw new Error('submitting answered no task_id')
  return taskId
}

function post({ controlUrl, apiKey }: ApiOrder, path: string, sending: unknown): Promise<{ task_id?: string }> {
  const body = JSON.stringify(sending)
  const headers = {
    authorization: `Bearer ${apiKey}`,
    'content-type': 'application/json',
    'content-length': body.length,
  }
  return new Promise((resolve, reject) => {
    const sent = request(
      `${controlUrl}/api/v1/${path}`,
      { method: 'POST', agent: connections, headers },
      (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (piece: string) => {
          text += piece
        })
        response.on('end', () => {
          if (response.statusCode === 202 || response.statusCode === 200)
            resolve(JSON.parse(text) as { task_id?: string })
          else reject(new Error(`${path} answered ${response.statusCode}: ${text}`))
        })
      },
    )
    sent.on('error', reject)
    sent.end(body)
  })
}

/** Opens an event stream and calls back with each line of a log. Resolves once the first event came. */
function follow(order: ApiOrder, taskId: string, onLog: (line: string) => void): Promise<() => void> {
  const headers = { authorization: `Bearer ${order.apiKey}`, accept: 'text/event-stream' }
  return new Promise((resolve, reject) => {
    const sent = request(
      `${order.controlUrl}/api/v1/r/tasks/${taskId}/events`,
      { agent: false, headers },
      (response) => {
        if (response.statusCode !== 200) reject(new Error(`events answered ${response.statusCode}`))
        let kept = ''
        response.setEncoding('utf8')
        response.on('data', (piece: string) => {
          kept += piece
          const events = kept.split('\n\n')
          kept = events.pop() ?? ''
          resolve(() => sent.destroy())
          for (const event of events) {
            if (!event.includes('event: log')) continue
            const data = event.split('\n').find((line) => line.startsWith('data: ')) ?? ''
            onLog((JSON.parse(data.slice('data: '.length)) as { line: string }).line)
          }
        })
        response.on('error', () => {})
      },
    )
    sent.on('error', reject)
    sent.end()
  })
}

answerParent<FleetVerbs>({
  async dial({ gatewayUrl, agentKey, agents }) {
    const tools = [{ type: 'demo', version: '0' } as const]
    await Promise.all(
      Array.from({ length: agents }, (_, number) => {
        const facts = { agentId: `fleet-${number}`, labels: [], systemStats: NO_STATS, tools }
        return dialLink({
          url: new URL(gatewayUrl),
          headers: { authorization: `Bearer ${agentKey}` },
          hello: (challenge) => agentHello(machine, facts, challenge),
          onStream: serveTask,
        })
      }),
    )
  },

  async submitEvenly({ perSecond, seconds, ...api }) {
    const took: number[] = []
    const start = performance.now()
    const runs = Array.from({ length: perSecond * seconds }, async (_, number) => {
      await new Promise((resolve) => setTimeout(resolve, (number / perSecond) * 1_000))
      const asked = performance.now()
      const taskId = await submit(api)
      // The agent may well have it before the client has its answer.
      while (!assignedAt.has(taskId)) await new Promise((resolve) => setTimeout(resolve, 1))
      took.push((assignedAt.get(taskId) ?? 0) - asked)
    })
    await Promise.all(runs)
    if (performance.now() - start > (seconds + 5) * 1_000) throw new Error('the server did not keep up')
    return took
  },

  async submitAll({ tasks, clients, ...api }) {
    const before = completed
    const start = performance.now()
    let left = tasks
    const all = until(() => completed - before >= tasks)
    await Promise.all(
      Array.from({ length: clients }, async () => {
        while (left-- > 0) await submit(api)
      }),
    )
    await all
    return (performance.now() - start) / 1_000
  },

  async watch({ watchers, lines, everyMs, ...api }) {
    const took: number[] = []
    const begun = Promise.withResolvers<Attempt>()
    work = begun.resolve
    const taskId = await submit(api)
    const { assign, say } = await begun.promise
    work = echo
    const onLog = (line: string): void => void took.push(performance.now() - Number(line))
    const closes = await Promise.all(Array.from({ length: watchers }, () => follow(api, taskId, onLog)))
    for (let sequence = 1; sequence <= lines; sequence++) {
      const note = {
        kind: 'log',
        lines: [{ stream: 'stdout', line: String(performance.now()), timestamp: '' }],
      } as const
      say({ type: 'event', sequence, event: note })
      await new Promise((resolve) => setTimeout(resolve, everyMs))
    }
    while (took.length < watchers * lines) await new Promise((resolve) => setTimeout(resolve, 5))
    say({ type: 'finished', sequence: lines + 1, outcome: { kind: 'completed', output: assign.parameters } })
    for (const close of closes) close()
    return took
  },

  async cancel({ times, ...api }) {
    const took: number[] = []
    work = () => {}
    for (let time = 0; time < times; time++) {
      const taskId = await submit(api)
      await until(() => assignedAt.has(taskId))
      const asked = performance.now()
      const [, at] = await Promise.all([
        post(api, `r/tasks/${taskId}/cancel`, {}),
        until(() => cancelledAt.has(taskId)).then(() => cancelledAt.get(taskId) ?? 0),
      ])
      took.push(at - asked)
    }
    work = echo
    return took
  },
})
