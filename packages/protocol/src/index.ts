export {
  AGENT_LIMITS,
  type AgentHello,
  type GpuDevice,
  isAgentId,
  isLabel,
  type MachineProof,
  machineProofText,
  type OfferedTool,
  parseAgentHello,
  type SystemStats,
} from './agent-hello.ts'
export { CAPABILITIES, type Capability, OWN_CAPABILITIES } from './capabilities.ts'
export {
  type AgentLine,
  INVENTORY_LIMITS,
  type InventoryLine,
  parseAgentLine,
  parseServerLine,
  type ServerLine,
  type ToolHealthReport,
  type ToolState,
} from './control-lines.ts'
export type { ByteLender } from './delivered-chunk.ts'
export { type FaultCode, LinkClosedError, SessionFault, StreamResetError, unreachable } from './faults.ts'
export { FieldError } from './fields.ts'
export {
  ARTIFACT_REFUSALS,
  type ArtifactAnswer,
  type ArtifactHeader,
  type ArtifactRefusal,
  FILE_LINE_BYTES,
  INPUT_REFUSALS,
  type InputAnswer,
  type InputRefusal,
  type InputRequest,
  parseArtifactAnswer,
  parseArtifactHeader,
  parseInputAnswer,
  parseInputRequest,
} from './file-lines.ts'
export { safeFileName } from './file-name.ts'
export {
  type ControlFrame,
  encodeFrame,
  FRAME_HEADER_BYTES,
  FrameDecoder,
  type FrameHandler,
  writeDataHeader,
} from './frames.ts'
export { LIMITS, type Limits } from './limits.ts'
export {
  CLOSE_CODES,
  type CloseCode,
  type CloseReason,
  type Hello,
  type JsonObject,
  type OpenInit,
  PRIORITY,
  type Priority,
  RESET_CODES,
  type ResetCode,
  type StreamTarget,
  type Welcome,
} from './model.ts'
export type { PendingWrite } from './pending-write.ts'
export { RateLimit } from './rate.ts'
export { formatKey, KEY_RANDOM_BYTES, type KeyKind, parseKey, redactSecrets } from './secrets.ts'
export { Session } from './session.ts'
export type { OutFrame, SessionHost, SessionOptions, SessionRole } from './session-host.ts'
export type { Chunk, LinkStream, StreamEvents, StreamHandler } from './stream.ts'
export { suggest } from './suggest.ts'
export {
  type AgentTaskLine,
  type AssignedFile,
  type AssignLine,
  type AttemptEvent,
  type AttemptName,
  type AttemptOutcome,
  type AttemptProgress,
  DECLINE_REASONS,
  type DeclineReason,
  EXPOSED_PROTOCOLS,
  type ExposedService,
  type FileFacts,
  LOG_STREAMS,
  type LogLine,
  parseAgentTaskLine,
  parseServerTaskLine,
  type ServerTaskLine,
  TASK_FAULTS,
  TASK_LIMITS,
  type TaskFault,
  TOOL_TYPES,
  type ToolType,
} from './task-lines.ts'
export {
  decodeShellFrame,
  decodeViewerFrame,
  encodeShellFrame,
  encodeViewerFrame,
  type ShellFrame,
  TERMINAL_LIMITS,
  type TerminalAttach,
  type TerminalAttached,
  TerminalFrameReader,
  type TerminalRefusal,
  type TerminalSize,
  type ViewerFrame,
} from './terminal-frames.ts'
export {
  applyMask,
  encodeClose,
  encodeWebsocketFrame,
  MAX_WEBSOCKET_HEADER_BYTES,
  type Mask,
  OPCODE,
  WEBSOCKET_CLOSE,
  type WebsocketHandler,
  WebsocketReader,
  websocketHeaderBytes,
  writeWebsocketHeader,
} from './websocket.ts'
