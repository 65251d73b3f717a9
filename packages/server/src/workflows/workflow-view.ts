import type { SnapshotView, WorkflowView } from '@cyberun/api'
import type { SnapshotRecord, WorkflowRecord } from '../store/workflows.ts'

/** Workflows in the words of the API. */

/** With its graph, which the caller may have to be spared. */
export function workflowView(workflow: WorkflowRecord): WorkflowView {
  const { id, slug, status, version, definition, createdAt, updatedAt } = workflow
  return {
    ...definition,
    expose: definition.expose ?? null,
    id,
    workflow_slug: slug,
    workflow_status: status,
    version,
    created_at: time(createdAt),
    updated_at: time(updatedAt),
  }
}

export function snapshotView({ version, displayName, createdAt, createdByUserId }: SnapshotRecord): SnapshotView {
  return { version, display_name: displayName, created_at: time(createdAt), created_by: createdByUserId }
}

const time = (ms: number): string => new Date(ms).toISOString()
