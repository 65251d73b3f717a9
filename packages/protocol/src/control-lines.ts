import { AGENT_LIMITS, type OfferedTool, parseSystemStats, type SystemStats } from './agent-hello.ts'
import { jsonObject, list, object, oneOf, optionalText, text, whole } from './fields.ts'
import type { JsonObject } from './model.ts'
import { TASK_LIMITS, TOOL_TYPES } from './task-lines.ts'

/** The JSON lines of an agent's `control` stream (docs/protocol.md, "The control stream"). */

/** The bounds of an inventory, over all its parts. */
export const INVENTORY_LIMITS = { parts: 40, names: 50_000 } as const

export const TOOL_STATES = ['ready', 'unhealthy', 'starting'] as const
export type ToolState = (typeof TOOL_STATES)[number]

/** How a tool of the agent does. */
export interface ToolHealthReport extends OfferedTool {
  state: ToolState
  /** For people, where it is not ready. */
  reason?: string
}

/** A line the agent writes on its control stream. */
export type AgentLine =
  | {
      type: 'heartbeat'
      sequence: number
      system_stats: SystemStats
      /** Absent: as in the hello, and ready. */
      tools?: readonly ToolHealthReport[]
      /** How many more attempts it would take now; absent: capacity less what it was given. */
      free_slots?: number
    }
  | InventoryLine

/**
 * One of `parts` parts of what the machine has. The server keeps the whole when the last part came, in the place of what
 * it knew; an agent that never sends one is taken to have every model and node class.
 */
export interface InventoryLine {
  type: 'inventory'
  /** From 1. */
  part: number
  parts: number
  /** File names of models. */
  models: readonly string[]
  node_classes: readonly string[]
}

/** A line the server writes on it. */
export type ServerLine = { type: 'heartbeat_ok'; sequence: number }

/** Reads one line of an agent's control stream; undefined for a type this end does not know. Throws `FieldError`. */
export function parseAgentLine(line: string): AgentLine | undefined {
  const fields = jsonObject('a control line', line)
  switch (fields['type']) {
    case 'heartbeat':
      return heartbeat(fields)
    case 'inventory':
      return inventory(fields)
    default:
      return undefined
  }
}

/** Reads one line of the server on a control stream; undefined for a type this end does not know. Throws `FieldError`. */
export function parseServerLine(line: string): ServerLine | undefined {
  const fields = jsonObject('a control line', line)
  if (fields['type'] !== 'heartbeat_ok') return undefined
  return { type: 'heartbeat_ok', sequence: whole('sequence', fields['sequence'], 0, Number.MAX_SAFE_INTEGER) }
}

function heartbeat(fields: JsonObject): AgentLine {
  const { tools, free_slots: freeSlots } = fields
  return {
    type: 'heartbeat',
    sequence: whole('sequence', fields['sequence'], 0, Number.MAX_SAFE_INTEGER),
    system_stats: parseSystemStats('system_stats', fields['system_stats']),
    ...(tools !== undefined && {
      tools: list('tools', tools, AGENT_LIMITS.tools).map((tool, index) => toolHealth(`tools[${index}]`, tool)),
    }),
    ...(freeSlots !== undefined && { free_slots: whole('free_slots', freeSlots, 0, AGENT_LIMITS.gpuCapacity) }),
  }
}

function toolHealth(path: string, raw: unknown): ToolHealthReport {
  const tool = object(path, raw)
  const reason = optionalText(`${path}.reason`, tool['reason'], TASK_LIMITS.nameCharacters)
  return {
    type: oneOf(`${path}.type`, tool['type'], TOOL_TYPES),
    version: text(`${path}.version`, tool['version'], AGENT_LIMITS.versionCharacters),
    state: oneOf(`${path}.state`, tool['state'], TOOL_STATES),
    ...(reason !== null && { reason }),
  }
}

function inventory(fields: JsonObject): InventoryLine {
  const parts = whole('parts', fields['parts'], 1, INVENTORY_LIMITS.parts)
  return {
    type: 'inventory',
    part: whole('part', fields['part'], 1, parts),
    parts,
    models: names('models', fields['models']),
    node_classes: names('node_classes', fields['node_classes']),
  }
}

function names(path: string, raw: unknown): readonly string[] {
  return list(path, raw, INVENTORY_LIMITS.names).map((name, index) =>
    text(`${path}[${index}]`, name, TASK_LIMITS.nameCharacters),
  )
}
