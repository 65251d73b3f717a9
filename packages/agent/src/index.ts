export { type RetryCase, retryWait } from './backoff.ts'
export {
  AGENT_CONFIG_FILE,
  type AgentConfig,
  AgentConfigError,
  type AgentSettings,
  agentSocketUrl,
  defaultAgentId,
  loadAgentConfig,
  parseAgentConfig,
} from './config.ts'
export { judgeDial, type Verdict } from './dial-failure.ts'
export { type AgentFacts, agentHello } from './hello.ts'
export type { AgentExit, AgentState } from './keep-linked.ts'
export { type MachineKey, MachineKeyError, openMachineKey, temporaryMachineKey } from './machine-key.ts'
export { type AgentDeps, runAgent } from './run.ts'
export { agentConfigTemplate, type SystemdUnitOptions, systemdUnit } from './template.ts'
export { AGENT_SOFTWARE, AGENT_VERSION } from './version.ts'
