import type { AssignLine } from '@cyberun/protocol'
import type { Assignment } from '../tools/tool.ts'

/** An assignment as tools see it. */
export function assignmentOf(assign: AssignLine): Assignment {
  return {
    taskId: assign.task_id,
    fence: assign.fence,
    toolType: assign.tool_type,
    workflowSlug: assign.workflow_slug,
    workflowVersion: assign.workflow_version,
    workflow: assign.workflow_json,
    parameters: assign.parameters,
    files: assign.files.map((file) => ({
      parameter: file.parameter,
      fileKey: file.file_key,
      fileName: file.file_name,
      contentType: file.content_type,
      size: file.size,
      sha256: file.sha256,
    })),
    requiredModels: assign.required_models,
    exposePort: assign.expose?.port,
  }
}
