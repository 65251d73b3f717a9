import { INVENTORY_LIMITS, type InventoryLine, TASK_LIMITS } from '@cyberun/protocol'

/** Names in one line, in JSON characters: with its frame around them it stays below 64 KiB even if all take 3 bytes. */
const PART_CHARACTERS = 20_000

type Inventory = Pick<InventoryLine, 'models' | 'node_classes'>

/**
 * The lines that tell the server what is here. Undefined when it is more than the wire takes: then the server takes the
 * machine to have everything, and a run that needs what is missing is declined.
 */
export function inventoryLines(inventory: Inventory): InventoryLine[] | undefined {
  const names = [
    ...inventory.models.filter(isName).map((name) => ({ kind: 'models' as const, name })),
    ...inventory.node_classes.filter(isName).map((name) => ({ kind: 'node_classes' as const, name })),
  ]
  const parts: { models: string[]; node_classes: string[] }[] = [{ models: [], node_classes: [] }]
  let characters = 0
  for (const { kind, name } of names) {
    const weight = JSON.stringify(name).length + 1
    if (characters + weight > PART_CHARACTERS) {
      parts.push({ models: [], node_classes: [] })
      characters = 0
    }
    parts.at(-1)?.[kind].push(name)
    characters += weight
  }
  if (parts.length > INVENTORY_LIMITS.parts) return undefined
  return parts.map((part, index) => ({ type: 'inventory', part: index + 1, parts: parts.length, ...part }))
}

const PRINTABLE = /^[^\p{Cc}\p{Cs}]+$/u

function isName(name: string): boolean {
  return name.length <= TASK_LIMITS.nameCharacters && PRINTABLE.test(name)
}
