import type { Graph } from './validation.ts'

/** `[number, prompt id, graph, extra data, output nodes]`, as `/queue` shows it. */
export type QueueItem = readonly [
  number: number,
  promptId: string,
  graph: Graph,
  extraData: Readonly<Record<string, unknown>>,
  outputs: readonly string[],
]

export type StatusMessage = [event: string, data: Record<string, unknown>]

export interface HistoryEntry {
  prompt: QueueItem
  outputs: Record<string, unknown>
  status: { status_str: 'success' | 'error'; completed: boolean; messages: StatusMessage[] }
  meta: Record<string, unknown>
}

const MOST_HISTORY = 10_000

/** What waits, what runs, what is over: `execution.PromptQueue`. */
export class PromptQueue {
  readonly history = new Map<string, HistoryEntry>()
  readonly #onChange: () => void
  #pending: QueueItem[] = []
  #running: QueueItem | undefined
  #wake: (() => void) | undefined

  constructor(onChange: () => void) {
    this.#onChange = onChange
  }

  /** Running and waiting prompts together. */
  get remaining(): number {
    return this.#pending.length + (this.#running === undefined ? 0 : 1)
  }

  get running(): QueueItem | undefined {
    return this.#running
  }

  get pending(): readonly QueueItem[] {
    return this.#pending
  }

  holds(promptId: string): boolean {
    return (
      this.#running?.[1] === promptId ||
      this.#pending.some((item) => item[1] === promptId) ||
      this.history.has(promptId)
    )
  }

  put(item: QueueItem): void {
    this.#pending.push(item)
    // A heap shows its least item first and the others in no useful order; backwards is one such order.
    this.#pending.sort((a, b) => b[0] - a[0])
    const least = this.#pending.pop()
    if (least !== undefined) this.#pending.unshift(least)
    this.#onChange()
    this.#wake?.()
  }

  /** Waits for the least number; undefined when `signal` ends the wait. */
  async take(signal: AbortSignal): Promise<QueueItem | undefined> {
    while (this.#pending.length === 0) {
      if (signal.aborted) return undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    }
    if (signal.aborted) return undefined
    const least = Math.min(...this.#pending.map((item) => item[0]))
    const item = this.#pending.find((candidate) => candidate[0] === least)
    this.#pending = this.#pending.filter((candidate) => candidate !== item)
    this.#running = item
    this.#onChange()
    return item
  }

  /** Ends the running prompt, with what it leaves in history if anything. */
  done(entry: HistoryEntry | undefined): void {
    const item = this.#running
    this.#running = undefined
    if (item !== undefined && entry !== undefined) {
      const oldest = this.history.keys().next().value
      if (this.history.size > MOST_HISTORY && oldest !== undefined) this.history.delete(oldest)
      this.history.set(item[1], entry)
    }
    this.#onChange()
  }

  remove(promptIds: readonly string[]): void {
    this.#pending = this.#pending.filter((item) => !promptIds.includes(item[1]))
    this.#onChange()
  }

  clear(): void {
    this.#pending = []
    this.#onChange()
  }
}
