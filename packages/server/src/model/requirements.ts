import type { ToolType } from '@cyberun/api'

/** What an agent must have to run a task. */
export interface Requirements {
  tool: ToolType
  labels: readonly string[]
  /** Model files by name. */
  models: readonly string[]
  /** Node classes of a ComfyUI graph. */
  nodes: readonly string[]
  minVramGb: number | null
  /** Not required: agents whose GPU's name contains it come first among equals. */
  preferredGpu: string | null
}

/** What an agent has, as it reported last. */
export interface AgentOffer {
  agentId: string
  labels: ReadonlySet<string>
  tools: ReadonlySet<ToolType>
  /** `any`: it never said, so it is taken to have every one, and declines what it has not. */
  models: ReadonlySet<string> | 'any'
  nodeClasses: ReadonlySet<string> | 'any'
  vramGb: number
  gpuName: string | null
}

export interface Missing {
  kind: 'tool' | 'label' | 'VRAM' | 'model' | 'node class'
  name: string
}

/** What of `needs` an agent does not have, in the order a person would look. Empty when it may run the task. */
export function missingFrom(needs: Requirements, offer: AgentOffer): Missing[] {
  const missing: Missing[] = []
  if (!offer.tools.has(needs.tool)) missing.push({ kind: 'tool', name: needs.tool })
  for (const name of needs.labels) if (!offer.labels.has(name)) missing.push({ kind: 'label', name })
  if (needs.minVramGb !== null && offer.vramGb < needs.minVramGb) {
    missing.push({ kind: 'VRAM', name: `${needs.minVramGb} GB` })
  }
  for (const name of lacking(needs.models, offer.models)) missing.push({ kind: 'model', name })
  for (const name of lacking(needs.nodes, offer.nodeClasses)) missing.push({ kind: 'node class', name })
  return missing
}

/** Whether an agent has all of it. */
export function isEligible(needs: Requirements, offer: AgentOffer): boolean {
  return missingFrom(needs, offer).length === 0
}

export function isPreferredGpu(needs: Requirements, offer: AgentOffer): boolean {
  if (needs.preferredGpu === null || offer.gpuName === null) return false
  return plainName(offer.gpuName).includes(plainName(needs.preferredGpu))
}

function lacking(names: readonly string[], offered: ReadonlySet<string> | 'any'): readonly string[] {
  return offered === 'any' ? [] : names.filter((name) => !offered.has(name))
}

/** `NVIDIA GeForce RTX 4090` and `rtx-4090` speak of the same. */
function plainName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]+/g, ' ')
}
