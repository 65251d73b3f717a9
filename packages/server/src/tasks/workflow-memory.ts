import { LRUCache } from 'lru-cache'
import type { WorkflowRecord } from '../store/workflows.ts'

/** Which workflow to run: by id, or by slug and perhaps version (`slug@version`). */
export type WorkflowName = { id: string } | { slug: string }

/** Workflows remembered at most, counted and by the characters of their JSON. */
const MAX_WORKFLOWS = 500
const MAX_CHARACTERS = 32 * 1024 * 1024

/**
 * Workflows as runs were submitted to them lately, so that the next submission need not read them first. What is remembered
 * may be out of date: whoever acts on it says so to the store, which looks (`NewTask.isFromMemory`).
 */
export class WorkflowMemory {
  readonly #workflows = new LRUCache<string, WorkflowRecord>({
    max: MAX_WORKFLOWS,
    maxSize: MAX_CHARACTERS,
    sizeCalculation: ({ definition }) => JSON.stringify(definition).length,
  })

  /** What was read under this name last, if it was active. */
  recall(teamId: string, name: WorkflowName): WorkflowRecord | undefined {
    return this.#workflows.get(keyOf(teamId, name))
  }

  /** A version that was asked for by its number is not kept: the store looks whether a version is the latest. */
  keep(teamId: string, name: WorkflowName, workflow: WorkflowRecord): void {
    if (!('slug' in name && name.slug.includes('@'))) this.#workflows.set(keyOf(teamId, name), workflow)
  }
}

function keyOf(teamId: string, name: WorkflowName): string {
  return JSON.stringify([teamId, name])
}
