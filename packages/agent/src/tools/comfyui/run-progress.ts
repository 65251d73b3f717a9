import type { Progress } from '../tool.ts'
import type { Graph } from './graph.ts'
import type { SocketEvent } from './socket-events.ts'

/**
 * Sums what the socket says up to one number: the share of the graph's nodes that are done, the running one counted by
 * its own steps. It never goes back, whatever order the messages have.
 */
export class RunProgress {
  readonly #graph: Graph
  readonly #done = new Set<string>()
  #current: string | undefined
  #step: { node: string; value: number; max: number } | undefined
  #highest = 0

  constructor(graph: Graph) {
    this.#graph = graph
  }

  /** The node that runs now. */
  get current(): string | undefined {
    return this.#current
  }

  /** What to report after an event; undefined when it says nothing new. */
  take(event: SocketEvent): Progress | undefined {
    switch (event.kind) {
      case 'cached':
        for (const node of event.nodes) this.#done.add(node)
        break
      case 'executing':
        if (this.#current !== undefined && this.#current !== event.node) this.#done.add(this.#current)
        this.#current = event.node
        break
      case 'progress':
        this.#step = { node: event.node, value: event.value, max: event.max }
        break
      case 'states':
        for (const { id, finished, value, max } of event.nodes) {
          if (finished) this.#done.add(id)
          else this.#step = { node: id, value, max }
        }
        break
      default:
        return undefined
    }
    return this.#report()
  }

  #report(): Progress {
    const ids = [...this.#graph.keys()]
    const done = ids.filter((id) => this.#done.has(id)).length
    const step = this.#step !== undefined && !this.#done.has(this.#step.node) ? this.#step : undefined
    const part = step === undefined || step.max <= 0 ? 0 : Math.min(1, Math.max(0, step.value / step.max))
    this.#highest = Math.max(this.#highest, Math.min(1, (done + part) / ids.length))
    const node = this.#current === undefined ? undefined : this.#graph.get(this.#current)
    // Every node "steps" from 0 to 1; only those with steps of their own are worth telling.
    const steps = step !== undefined && step.max > 1 ? step : undefined
    return {
      progress: this.#highest,
      ...(this.#current !== undefined && { currentNode: this.#current }),
      ...(node !== undefined && { message: node.classType }),
      ...(steps !== undefined && { stepCurrent: Math.floor(steps.value), stepTotal: Math.ceil(steps.max) }),
    }
  }
}
