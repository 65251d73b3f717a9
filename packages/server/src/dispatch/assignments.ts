import { encodeLine } from '@cyberun/link'
import { type AssignedFile, type AssignLine, type JsonObject, TASK_LIMITS } from '@cyberun/protocol'
import { LRUCache } from 'lru-cache'
import { injectParameters } from '../model/inject.ts'
import type { ClaimedTask } from '../store/claims.ts'
import { inputFiles } from '../store/files.ts'
import type { Store } from '../store/store.ts'
import { getSnapshot, type WorkflowDefinition } from '../store/workflows.ts'
import type { DispatchLimits } from './limits.ts'

/** No agent can run the task. `message` is one sentence for its owner. */
export class NotRunnable extends Error {
  override readonly name = 'NotRunnable'
}

/** What stands where an agent puts a file (docs/protocol.md, section 12). */
const FILE_PLACEHOLDER = 'cyberun-file:'

/** Writes assignments. A version of a workflow never changes, so those used lately are kept. */
export class Assignments {
  readonly #store: Store
  readonly #definitions: LRUCache<string, WorkflowDefinition>

  constructor(store: Store, limits: DispatchLimits) {
    this.#store = store
    this.#definitions = new LRUCache({
      max: limits.snapshots,
      maxSize: limits.snapshotCharacters,
      sizeCalculation: (definition) => JSON.stringify(definition).length,
    })
  }

  /** What the agent is told, as a line. Throws `NotRunnable` when the workflow or a file is gone, or it is too large. */
  async write(task: ClaimedTask): Promise<Uint8Array> {
    const definition = await this.#definitionOf(task)
    const files = await this.#filesOf(task, definition)
    const line: AssignLine = {
      type: 'assign',
      task_id: task.taskId,
      fence: task.fence,
      tool_type: task.toolType,
      workflow_slug: task.workflowSlug,
      workflow_version: task.workflowVersion,
      workflow_json: injectParameters(definition, task.parameters),
      parameters: withPlaceholders(task.parameters, files),
      files,
      task_timeout_ms: task.taskTimeoutMs,
      resume_window_ms: task.resumeWindowMs,
      required_models: task.requirements.models,
      ...(definition.expose && { expose: definition.expose }),
    }
    const bytes = encodeLine(line)
    if (bytes.length <= TASK_LIMITS.serverLineBytes) return bytes
    throw new NotRunnable(`its workflow with all parameters has more than ${TASK_LIMITS.serverLineBytes} bytes`)
  }

  async #definitionOf({ workflowId, workflowVersion }: ClaimedTask): Promise<WorkflowDefinition> {
    const key = `${workflowId} ${workflowVersion}`
    const known = this.#definitions.get(key)
    if (known) return known
    const found = await getSnapshot(this.#store, workflowId, workflowVersion)
    if (!found) throw new NotRunnable(`version ${workflowVersion} of its workflow is gone; submit it again`)
    this.#definitions.set(key, found)
    return found
  }

  async #filesOf(task: ClaimedTask, definition: WorkflowDefinition): Promise<AssignedFile[]> {
    const wanted = definition.parameters.flatMap(({ key, type }) => {
      const fileKey = type === 'file' ? task.parameters[key] : undefined
      return typeof fileKey === 'string' ? [{ parameter: key, fileKey }] : []
    })
    if (wanted.length === 0) return []
    if (wanted.length > TASK_LIMITS.files) throw new NotRunnable(`a run may have ${TASK_LIMITS.files} files at most`)
    const found = await inputFiles(
      this.#store,
      task.teamId,
      wanted.map(({ fileKey }) => fileKey),
    )
    const byKey = new Map(found.map((file) => [file.fileKey, file]))
    return wanted.map(({ parameter, fileKey }) => {
      const file = byKey.get(fileKey)
      if (!file || file.sha256 === null) {
        throw new NotRunnable(`the file of its parameter ${parameter} is gone; upload it again and submit a new run`)
      }
      const { fileName: file_name, contentType: content_type, size, sha256 } = file
      return { parameter, file_key: fileKey, file_name, content_type, size, sha256 }
    })
  }
}

function withPlaceholders(parameters: JsonObject, files: readonly AssignedFile[]): JsonObject {
  if (files.length === 0) return parameters
  const placeholders = files.map(({ parameter, file_key }) => [parameter, `${FILE_PLACEHOLDER}${file_key}`])
  return { ...parameters, ...Object.fromEntries(placeholders) }
}
