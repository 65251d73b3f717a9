import { setTimeout as delay } from 'node:timers/promises'
import type { ComfyuiFaults, ComfyuiGeneration } from './faults.ts'
import type { Folders } from './folders.ts'
import { type NodeClass, type NodeResult, type NodeValue, nodeClasses } from './node-classes.ts'
import type { HistoryEntry, PromptQueue, QueueItem, StatusMessage } from './prompt-queue.ts'
import type { Sockets } from './sockets.ts'
import { type Graph, isLink } from './validation.ts'

export interface ExecutorParts {
  readonly queue: PromptQueue
  readonly sockets: Sockets
  readonly folders: Folders
  readonly faults: ComfyuiFaults
  readonly generation: ComfyuiGeneration
  readonly writesMetadata: boolean
  log(line: string): void
}

/** What a cached node left, with the signature of everything it depends on. */
interface Cached extends NodeResult {
  readonly signature: string
}

class Interrupted extends Error {}

/** A Python exception by its full name. */
class NodeError extends Error {
  readonly type: string

  constructor(type: string, message: string) {
    super(message)
    this.type = type
  }
}

/** The worker: one prompt after the other, in the order of messages that ComfyUI has. */
export class Executor {
  readonly #parts: ExecutorParts
  #cache = new Map<string, Cached>()
  #interruptedAt: number | undefined
  #freesMemory = false
  #gpuIsLost = false
  #clientId: string | undefined
  #currentNode: string | undefined

  constructor(parts: ExecutorParts) {
    this.#parts = parts
  }

  /** Whose prompt runs, and which node: a socket that comes back is told. */
  get current(): { clientId: string | undefined; node: string | undefined } {
    return { clientId: this.#clientId, node: this.#currentNode }
  }

  /** Looked at between nodes and at progress, and forgotten when a prompt begins. */
  interrupt(): void {
    this.#interruptedAt ??= performance.now()
  }

  /** Done between prompts: at once while none runs. */
  freeMemory(): void {
    this.#freesMemory = this.#parts.queue.running !== undefined
    if (!this.#freesMemory) this.#cache.clear()
  }

  /** Works until `signal` aborts or the worker dies of a fault. */
  async work(signal: AbortSignal): Promise<void> {
    const { queue, faults, sockets } = this.#parts
    for (;;) {
      if (faults.deadWorker === 'idle') return
      const item = await queue.take(signal)
      if (item === undefined || faults.deadWorker === 'holding') return
      const entry = await this.#execute(item)
      if (signal.aborted) return
      if (faults.historyDelayMs > 0) await delay(faults.historyDelayMs)
      queue.done(faults.losesHistory ? undefined : entry)
      if (this.#clientId !== undefined) sockets.send('executing', { node: null, prompt_id: item[1] }, this.#clientId)
      this.#parts.log('Prompt executed in 0.00 seconds')
      if (this.#freesMemory) this.#cache.clear()
      this.#freesMemory = false
    }
  }

  async #execute(item: QueueItem): Promise<HistoryEntry> {
    const [, promptId, graph, extra, wanted] = item
    this.#interruptedAt = undefined
    this.#clientId = typeof extra['client_id'] === 'string' ? extra['client_id'] : undefined
    const messages: StatusMessage[] = []
    const tell = (event: string, data: Record<string, unknown>, toAll = false): void => {
      const stamped = { ...data, timestamp: Date.now() }
      messages.push([event, stamped])
      if (this.#clientId !== undefined || toAll) this.#parts.sockets.send(event, stamped, this.#clientId)
    }
    tell('execution_start', { prompt_id: promptId })
    this.#dropUnused(graph)
    tell('execution_cached', {
      nodes: Object.keys(graph).filter((id) => this.#isCached(graph, id)),
      prompt_id: promptId,
    })
    const executed: string[] = []
    let failed: string | undefined
    const states: Record<string, unknown> = {}
    try {
      for (const id of inOrder(graph, wanted)) {
        failed = id
        await this.#runNode(item, id, states)
        executed.push(id)
      }
      failed = undefined
      tell('execution_success', { prompt_id: promptId })
    } catch (error) {
      const at = { prompt_id: promptId, node_id: failed, node_type: graph[failed ?? '']?.class_type, executed }
      if (error instanceof Interrupted) tell('execution_interrupted', at, true)
      else tell('execution_error', { ...at, ...describe(error), current_inputs: {}, current_outputs: [] })
    }
    this.#currentNode = undefined
    const succeeded = failed === undefined || this.#parts.faults.liesAboutSuccess
    const status = { status_str: succeeded ? ('success' as const) : ('error' as const), completed: succeeded, messages }
    const outputs = this.#outputs(graph)
    const meta = Object.fromEntries(
      Object.keys(outputs).map((id) => [id, { node_id: id, display_node: id, parent_node: null, real_node_id: id }]),
    )
    return { prompt: item, outputs, status, meta }
  }

  async #runNode(item: QueueItem, id: string, states: Record<string, unknown>): Promise<void> {
    const [, promptId, graph] = item
    const node = graph[id]
    const type = nodeClasses(this.#parts.folders)[node?.class_type ?? '']
    if (node === undefined || type === undefined) throw new Error(`no node ${id}`)
    const { sockets, faults } = this.#parts
    const named = { node: id, display_node: id, prompt_id: promptId }
    const cached = this.#cache.get(id)
    if (cached !== undefined && this.#isCached(graph, id)) {
      if (cached.ui !== undefined && this.#clientId !== undefined)
        sockets.send('executed', { ...named, output: cached.ui }, this.#clientId)
      this.#sendState(states, promptId, id, { state: 'finished', value: 1, max: 1 })
      return
    }
    this.#throwIfInterrupted()
    this.#sendState(states, promptId, id, { state: 'running', value: 0, max: 1 })
    this.#currentNode = id
    if (this.#clientId !== undefined) sockets.send('executing', named, this.#clientId)
    if (faults.cutSocketsAt === node.class_type) {
      faults.cutSocketsAt = ''
      sockets.cut()
    }
    if (faults.freezeAt === node.class_type) await new Promise<never>(() => {})
    this.#throwFaults(type)
    const result = await type.run(this.#inputsOf(node.inputs), {
      folders: this.#parts.folders,
      graph,
      writesMetadata: this.#parts.writesMetadata,
      progress: (value, max, picture) => this.#progress(states, promptId, id, value, max, picture),
    })
    this.#cache.set(id, { ...result, signature: signatureOf(graph, id) })
    if (result.ui !== undefined && this.#clientId !== undefined)
      sockets.send('executed', { ...named, output: result.ui }, this.#clientId)
    this.#sendState(states, promptId, id, { state: 'finished', value: 1, max: 1 })
  }

  async #progress(
    states: Record<string, unknown>,
    promptId: string,
    id: string,
    value: number,
    max: number,
    picture?: Buffer,
  ): Promise<void> {
    this.#throwIfInterrupted()
    const { sockets, faults } = this.#parts
    if (picture !== undefined) {
      const metadata = { node_id: id, prompt_id: promptId, display_node_id: id, parent_node_id: null, real_node_id: id }
      sockets.sendPicture(picture, metadata, this.#clientId)
    }
    for (let i = 0; i < faults.progressFlood.messages; i++) {
      this.#sendState(states, promptId, id, { state: 'running', value, max })
      sockets.send('progress', { value, max, prompt_id: promptId, node: id }, this.#clientId)
    }
  }

  #sendState(states: Record<string, unknown>, promptId: string, id: string, state: Record<string, unknown>): void {
    if (this.#parts.generation === 'ancient') return
    const about = (node: string) => ({
      node_id: node,
      display_node_id: node,
      parent_node_id: null,
      real_node_id: node,
      prompt_id: promptId,
    })
    states[id] = { ...state, ...about(id) }
    for (let i = 0; i < this.#parts.faults.progressFlood.nodes; i++) {
      states[`${id}.0.0.${i}`] = { state: 'finished', value: 1, max: 1, ...about(`${id}.0.0.${i}`), parent_node_id: id }
    }
    this.#parts.sockets.send('progress_state', { prompt_id: promptId, nodes: states }, this.#clientId)
  }

  #throwIfInterrupted(): void {
    if (this.#interruptedAt === undefined) return
    if (performance.now() - this.#interruptedAt < this.#parts.faults.slowInterruptMs) return
    this.#interruptedAt = undefined
    throw new Interrupted()
  }

  #throwFaults(type: NodeClass): void {
    const { faults } = this.#parts
    if (type.isOutput) return
    if (faults.gpuFault) this.#gpuIsLost = true
    if (this.#gpuIsLost)
      throw new NodeError('torch.AcceleratorError', 'CUDA error: an illegal memory access was encountered')
    if (faults.outOfMemory > 0) {
      faults.outOfMemory--
      throw new NodeError(
        'torch.OutOfMemoryError',
        'Allocation on device 0 would exceed allowed memory. (out of memory)',
      )
    }
  }

  #inputsOf(inputs: Readonly<Record<string, unknown>>): Record<string, NodeValue> {
    return Object.fromEntries(
      Object.entries(inputs).map(([name, value]) => {
        const given = isLink(value) ? this.#cache.get(value[0])?.values[value[1]] : value
        // Only what nodes give and what JSON holds gets here.
        return [name, given as NodeValue]
      }),
    )
  }

  #isCached(graph: Graph, id: string): boolean {
    if (nodeClasses(this.#parts.folders)[graph[id]?.class_type ?? '']?.alwaysRuns) return false
    return this.#cache.get(id)?.signature === signatureOf(graph, id)
  }

  #dropUnused(graph: Graph): void {
    this.#cache = new Map([...this.#cache].filter(([id]) => this.#isCached(graph, id)))
  }

  #outputs(graph: Graph): Record<string, unknown> {
    const own = [...this.#cache]
      .filter(([id, { ui }]) => id in graph && ui !== undefined)
      .map(([id, { ui }]) => [id, ui])
    const foreign = { images: [{ filename: 'somebody-elses.png', subfolder: '', type: 'output' }] }
    return Object.fromEntries(this.#parts.faults.foreignOutputs ? [...own, ['4711', foreign]] : own)
  }
}

/** Every node that `outputs` need, each after what it needs itself. */
function inOrder(graph: Graph, outputs: readonly string[]): string[] {
  const order = new Set<string>()
  const visit = (id: string): void => {
    if (order.has(id)) return
    for (const value of Object.values(graph[id]?.inputs ?? {})) if (isLink(value)) visit(value[0])
    order.add(id)
  }
  for (const id of outputs) visit(id)
  return [...order]
}

function signatureOf(graph: Graph, id: string): string {
  const node = graph[id]
  const inputs = Object.entries(node?.inputs ?? {}).map(([name, value]) => [
    name,
    isLink(value) ? [signatureOf(graph, value[0]), value[1]] : value,
  ])
  return JSON.stringify([id, node?.class_type, inputs])
}

function describe(error: unknown): Record<string, unknown> {
  const message = error instanceof Error ? error.message : String(error)
  return {
    exception_message: `${message}\n`,
    exception_type: error instanceof NodeError ? error.type : 'Exception',
    traceback: ['  File "execution.py", line 496, in execute\n'],
  }
}
