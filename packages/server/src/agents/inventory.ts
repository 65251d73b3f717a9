import { FieldError, INVENTORY_LIMITS, type InventoryLine } from '@cyberun/protocol'

/** What a machine has, by name. */
export interface Inventory {
  readonly models: ReadonlySet<string>
  readonly nodeClasses: ReadonlySet<string>
}

/** Puts the parts of one inventory of an agent together. Bounded by `INVENTORY_LIMITS`, over all parts. */
export class InventoryParts {
  #models = new Set<string>()
  #nodeClasses = new Set<string>()
  #next = 1

  /** The whole, with its last part. Throws `FieldError` for parts out of order and for too many names. */
  take(line: InventoryLine): Inventory | undefined {
    if (line.part === 1) this.#begin()
    if (line.part !== this.#next) throw new FieldError('part', `${this.#next}, as parts come in their order`)
    this.#next += 1
    for (const name of line.models) this.#models.add(name)
    for (const name of line.node_classes) this.#nodeClasses.add(name)
    if (this.#models.size + this.#nodeClasses.size > INVENTORY_LIMITS.names) {
      throw new FieldError('an inventory', `of at most ${INVENTORY_LIMITS.names} names`)
    }
    if (line.part < line.parts) return undefined
    return { models: this.#models, nodeClasses: this.#nodeClasses }
  }

  #begin(): void {
    this.#models = new Set()
    this.#nodeClasses = new Set()
    this.#next = 1
  }
}
