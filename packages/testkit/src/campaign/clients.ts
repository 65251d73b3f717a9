import { setTimeout as delay } from 'node:timers/promises'
import { type Client, ClientError } from '@cyberun/api/client'
import { type History, type StoredTask, TERMINAL } from './history.ts'

/** The kinds of work a campaign submits: most of it is over at once, some is under way when a fault comes. */
export const WORKFLOWS = {
  echo: { tool_type: 'demo', workflow_json: { program: 'echo' } },
  nap: { tool_type: 'command', workflow_json: { command: 'nap' } },
  murmur: { tool_type: 'command', workflow_json: { command: 'murmur' } },
} as const
type WorkflowName = keyof typeof WORKFLOWS

/** A campaign must not run out of retries, or its tasks would fail for it. */
const MAX_RETRIES = 20
const SHORTEST_RESUME_WINDOW_S = 10
const CALL_MS = 5_000
const AGAIN_MS = 200

/** Clients that submit, cancel and look, and write down what they were told. */
export class Clients {
  readonly accepted = new Map<string, { text: string }>()
  readonly seen: History['seen'][number][] = []
  readonly #client: Client
  readonly #random: () => number

  constructor(client: Client, random: () => number) {
    this.#client = client
    this.#random = random
  }

  async importWorkflows(): Promise<void> {
    const text = { key: 'text', type: 'string' } as const
    const seconds = { key: 'seconds', type: 'string', default: '0' } as const
    for (const [slug, work] of Object.entries(WORKFLOWS)) {
      await this.#client.call('POST /workflows/import', {
        body: {
          ...work,
          workflow_slug: slug,
          parameters: slug === 'echo' ? [text] : [text, seconds],
          max_retries: MAX_RETRIES,
          resume_window: SHORTEST_RESUME_WINDOW_S,
        },
      })
    }
  }

  /** Submits so many tasks, spread over `ms`; resolves when each was accepted. */
  async submitAll(tasks: number, ms: number): Promise<void> {
    const start = performance.now()
    const clients = 8
    let next = 0
    await Promise.all(
      Array.from({ length: clients }, async () => {
        for (let at = next++; at < tasks; at = next++) {
          const due = (at / tasks) * ms - (performance.now() - start)
          if (due > 0) await delay(due)
          await this.#submit(at)
        }
      }),
    )
  }

  /** With one key until it is answered: whatever is lost on the way, there is one task. */
  async #submit(at: number): Promise<void> {
    const text = `task-${at}`
    const drawn = this.#random()
    const slug: WorkflowName = drawn < 0.08 ? 'nap' : drawn < 0.16 ? 'murmur' : 'echo'
    const seconds = (this.#random() * 3).toFixed(2)
    const parameters = slug === 'echo' ? { text } : { text, seconds }
    const { task_id } = await this.#untilAnswered((signal) =>
      this.#client.call(
        'POST /r/workflows/slug/{slug}/run',
        { params: { slug }, headers: { 'idempotency-key': text }, body: { parameters } },
        signal,
      ),
    )
    this.accepted.set(task_id, { text })
    if (drawn > 0.95) void this.#cancel(task_id)
    else if (drawn > 0.85) void this.#watch(task_id)
  }

  async #cancel(taskId: string): Promise<void> {
    await delay(this.#random() * 3_000)
    await this.#untilAnswered((signal) =>
      this.#client.call('POST /r/tasks/{id}/cancel', { params: { id: taskId } }, signal),
    )
    await this.#look(taskId)
  }

  async #watch(taskId: string): Promise<void> {
    await delay(this.#random() * 10_000)
    await this.#look(taskId)
  }

  async #look(taskId: string): Promise<void> {
    const { task_status: status } = await this.#task(taskId)
    if (status === 'completed' || status === 'failed' || status === 'cancelled') this.seen.push({ taskId, status })
  }

  #task(id: string) {
    return this.#untilAnswered((signal) => this.#client.call('GET /r/tasks/{id}', { params: { id } }, signal))
  }

  /** How many tasks have not ended. */
  async unfinished(): Promise<number> {
    let count = 0
    for (const status of ['pending', 'waiting', 'queued', 'running'] as const) {
      const { page_meta } = await this.#untilAnswered((signal) =>
        this.#client.call('GET /r/tasks', { query: { status, per_page: 1, current_page: 1 } }, signal),
      )
      count += page_meta.total_count
    }
    return count
  }

  /** Everything that the server has of the accepted tasks, read as any client would. */
  async readAll(): Promise<Map<string, StoredTask>> {
    const stored = new Map<string, StoredTask>()
    const left = [...this.accepted.keys()]
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let taskId = left.pop(); taskId !== undefined; taskId = left.pop()) {
          const task = await this.#read(taskId)
          if (task !== undefined) stored.set(taskId, task)
        }
      }),
    )
    return stored
  }

  async #read(id: string): Promise<StoredTask | undefined> {
    const params = { params: { id } }
    try {
      const task = await this.#task(id)
      const { task_output } = await this.#client.call('GET /r/tasks/{id}/result', params)
      const events: StoredTask['events'][number][] = []
      const lines: string[] = []
      // The events of one that is stuck never end; that it is stuck says enough.
      const isEnded = TERMINAL.includes(task.task_status)
      const all = isEnded ? this.#client.follow(id, {}, AbortSignal.timeout(60_000)) : []
      for await (const { number, event, data } of all) {
        if (number === undefined) continue
        events.push({ number, name: event, status: event === 'status' ? data.status : undefined })
        if (event === 'log') lines.push(data.line)
      }
      return {
        status: task.task_status,
        agentId: task.agent_id,
        retryCount: task.retry_count,
        maxRetries: MAX_RETRIES,
        said: JSON.stringify([task_output, lines]),
        events,
      }
    } catch (error) {
      if (error instanceof ClientError && error.code === 'not_found') return undefined
      throw error
    }
  }

  async #untilAnswered<T>(call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await call(AbortSignal.timeout(CALL_MS))
      } catch (error) {
        if (!(error instanceof ClientError) || !mayTryAgain(error)) throw error
        await delay(AGAIN_MS)
      }
    }
  }
}

/** The server is not there, or cannot answer now: everything else would be answered the same again. */
function mayTryAgain({ status }: ClientError): boolean {
  return status === undefined || status >= 500 || status === 429
}
