export {
  AGENT_LIMITS,
  type AgentHello,
  type AgentLine,
  FieldError,
  type GpuDevice,
  isAgentId,
  isLabel,
  type MachineProof,
  machineProofText,
  parseAgentHello,
  parseAgentLine,
  parseServerLine,
  type ServerLine,
  type SystemStats,
} from './agent-hello.ts'
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
export { formatKey, KEY_RANDOM_BYTES, type KeyKind, parseKey, redactSecrets } from './secrets.ts'
export { suggest } from './suggest.ts'
