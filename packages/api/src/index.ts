export { ApiError, type ErrorCode, type ErrorDetail, HTTP_STATUS, invalidRequest, refuseFaults } from './errors.ts'
export type { CallerKind, RouteSpec } from './route-spec.ts'
export type { RouteAnswer, RouteInput } from './route-types.ts'
export { type RouteName, type Routes, routes } from './routes.ts'
export { ROLES, type Role } from './schemas/account.ts'
export type { AgentView } from './schemas/agents.ts'
export { ErrorAnswer, Id, type PageQuery } from './schemas/common.ts'
export { CREDENTIAL_KINDS, type CredentialKind } from './schemas/credentials.ts'
export type { PresignBody, PresignedUpload } from './schemas/files.ts'
export type {
  InspectedDetail,
  InspectedRequest,
  InspectorAnswer,
  InspectorBody,
  InspectorQuery,
  InspectorState,
  ReplayAnswer,
} from './schemas/inspector.ts'
export type { TaskEvent, TaskEventData, TaskEventName } from './schemas/task-events.ts'
export {
  type RunBody,
  TASK_STATUSES,
  type TaskQuery,
  type TaskResult,
  type TaskStatus,
  type TaskView,
  TERMINAL_STATUSES,
} from './schemas/tasks.ts'
export {
  type ExtendedTunnel,
  type ExtendTunnelBody,
  type HostPolicy,
  type OpenedTunnel,
  type OpenTunnelBody,
  type PathMode,
  TUNNEL_PROFILES,
  type TunnelListAnswer,
  type TunnelProfile,
  type TunnelProtocol,
  type TunnelView,
} from './schemas/tunnels.ts'
export {
  type ChangeWorkflowBody,
  type ImportWorkflowBody,
  PARAMETER_TYPES,
  type SnapshotView,
  TOOL_TYPES,
  type ToolType,
  type WorkflowParameter,
  type WorkflowView,
} from './schemas/workflows.ts'
export type { TaskRoutes } from './task-routes.ts'
