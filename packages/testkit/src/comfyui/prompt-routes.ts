import { randomUUID } from 'node:crypto'
import { HttpAnswer } from './answers.ts'
import type { Executor } from './executor.ts'
import type { ComfyuiFaults, ComfyuiGeneration } from './faults.ts'
import type { Folders } from './folders.ts'
import { nodeClasses } from './node-classes.ts'
import type { HistoryEntry, PromptQueue, QueueItem } from './prompt-queue.ts'
import { type Graph, validate } from './validation.ts'

const CANONICAL_UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

export interface PromptParts {
  readonly queue: PromptQueue
  readonly executor: Executor
  readonly folders: Folders
  readonly faults: ComfyuiFaults
  readonly generation: ComfyuiGeneration
}

/** What may be done with prompts over HTTP. */
export class PromptRoutes {
  readonly #parts: PromptParts
  #number = 0

  constructor(parts: PromptParts) {
    this.#parts = parts
  }

  /** `POST /prompt`. Throws the answer when it is none of 200. */
  submit(body: Record<string, unknown>): unknown {
    const { queue, folders, generation, faults } = this.#parts
    if (faults.failsSubmits > 0) {
      faults.failsSubmits--
      throw new HttpAnswer(500, '500 Internal Server Error\n\nServer got itself in trouble')
    }
    const number =
      typeof body['number'] === 'number' ? body['number'] : this.#number++ * (body['front'] === true ? -1 : 1)
    const promptId = this.#promptId(body)
    if (typeof body['prompt'] !== 'object' || body['prompt'] === null) {
      throw refusal('no_prompt', 'No prompt provided', 'No prompt provided')
    }
    const graph = body['prompt'] as Graph
    const judged = validate(graph, nodeClasses(folders), folders, generation)
    if (judged.kind === 'invalid') throw new HttpAnswer(400, { error: judged.error, node_errors: judged.nodeErrors })
    const clientId = body['client_id']
    const extra = {
      ...(body['extra_data'] as object | undefined),
      ...(clientId !== undefined && { client_id: clientId }),
    }
    queue.put([number, promptId, graph, extra, judged.outputs])
    return { prompt_id: promptId, number, node_errors: judged.nodeErrors }
  }

  #promptId(body: Record<string, unknown>): string {
    const { generation, queue } = this.#parts
    const given = body['prompt_id']
    if (given === undefined || generation === 'ancient') return randomUUID()
    if (generation === 'classic') return String(given)
    if (typeof given !== 'string' || !CANONICAL_UUID.test(given)) {
      throw refusal('invalid_prompt_id', 'prompt_id must be a canonical lowercase UUID', String(given))
    }
    if (queue.holds(given)) {
      throw new HttpAnswer(409, {
        error: { type: 'duplicate_prompt_id', message: 'prompt_id is in use', details: given, extra_info: {} },
        node_errors: {},
      })
    }
    return given
  }

  /** `POST /interrupt`: whatever runs, or one prompt where the server knows how. */
  interrupt(body: Record<string, unknown>): void {
    const { queue, executor, faults, generation } = this.#parts
    const named = body['prompt_id']
    const knowsNames = generation !== 'ancient' && !faults.interruptHitsNeighbour
    if (knowsNames && typeof named === 'string' && queue.running?.[1] !== named) return
    executor.interrupt()
  }

  /** `POST /queue`. Unknown ids are no error. */
  changeQueue(body: Record<string, unknown>): void {
    if (body['clear'] === true) this.#parts.queue.clear()
    if (Array.isArray(body['delete'])) this.#parts.queue.remove(body['delete'].map(String))
  }

  /** `POST /history`. */
  changeHistory(body: Record<string, unknown>): void {
    const { history } = this.#parts.queue
    if (body['clear'] === true) history.clear()
    if (Array.isArray(body['delete'])) for (const id of body['delete']) history.delete(String(id))
  }

  /** `GET /api/jobs/{id}` and its cancellation, of the modern generation only. */
  job(id: string): unknown {
    const { queue } = this.#parts
    const entry = queue.history.get(id)
    if (queue.running?.[1] === id) return { id, status: 'in_progress' }
    if (queue.pending.some((item) => item[1] === id)) return { id, status: 'pending' }
    if (entry === undefined) throw new HttpAnswer(404, { error: 'Job not found' })
    return { id, status: jobStatus(entry), outputs: entry.outputs }
  }

  jobs(limit: number | null): unknown {
    const { queue } = this.#parts
    const jobs = [...(queue.running === undefined ? [] : [queue.running]), ...queue.pending].map((item: QueueItem) =>
      this.job(item[1]),
    )
    return { jobs, pagination: { offset: 0, limit, total: jobs.length, has_more: false } }
  }

  cancelJob(id: string): unknown {
    const { queue, executor } = this.#parts
    const isPending = queue.pending.some((item) => item[1] === id)
    const isRunning = queue.running?.[1] === id
    if (isPending) queue.remove([id])
    if (isRunning) executor.interrupt()
    return { cancelled: isPending || isRunning }
  }
}

function jobStatus({ status }: HistoryEntry): string {
  if (status.status_str === 'success') return 'completed'
  return status.messages.some(([event]) => event === 'execution_interrupted') ? 'cancelled' : 'failed'
}

function refusal(type: string, message: string, details: string): HttpAnswer {
  return new HttpAnswer(400, { error: { type, message, details, extra_info: {} }, node_errors: {} })
}
