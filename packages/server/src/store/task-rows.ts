import { TASK_STATUSES, type TaskStatus, TOOL_TYPES, type ToolType } from '@cyberun/api'
import type { JsonObject } from '@cyberun/protocol'

/** Reads what rows of tasks hold. We wrote them: anything else is a bug, and is thrown as one. */

export function parseStatus(raw: string): TaskStatus {
  return member(TASK_STATUSES, raw, 'status')
}

export function parseToolType(raw: string): ToolType {
  return member(TOOL_TYPES, raw, 'tool')
}

export function parseObject(json: string): JsonObject {
  return JSON.parse(json) as JsonObject
}

export function parseOptional(json: string | null): JsonObject | null {
  return json === null ? null : parseObject(json)
}

export function parseTexts(json: string): string[] {
  return JSON.parse(json) as string[]
}

/** `,gpu-1,gpu-2,` → its names. */
export function parseRefusedBy(text: string): string[] {
  return text.split(',').filter((agentId) => agentId !== '')
}

/** The form in which a lane's tasks share one text: sorted, each name with a comma around it, so that `like` finds it. */
export function formatRefusedBy(agentIds: readonly string[]): string {
  return agentIds.length === 0 ? '' : `,${agentIds.toSorted().join(',')},`
}

/** PostgreSQL's text has no place for NUL and for halves of characters. */
export function storable(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\ufffd')
}

function member<T extends string>(known: readonly T[], raw: string, what: string): T {
  const found = known.find((name) => name === raw)
  if (found === undefined) throw new Error(`no such ${what} in the store: ${raw}`)
  return found
}
