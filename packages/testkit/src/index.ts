export { type CampaignReport, runCampaign } from './campaign/campaign.ts'
export { checkHistory, type History, PROMISES, type Violation } from './campaign/history.ts'
export { answerParent, type Child, type ChildOptions, startChild } from './child.ts'
export type { ComfyuiFaults, ComfyuiGeneration } from './comfyui/faults.ts'
export { decodePng, pngChunks } from './comfyui/raster.ts'
export { type ComfyuiOptions, type SimulatedComfyui, startComfyui } from './comfyui/simulator.ts'
export { Connection, type Errand, type Route } from './connection.ts'
export { type CutKind, type Direction, type FaultRelay, type Faults, startFaultRelay } from './fault-relay.ts'
export { freePort } from './free-port.ts'
export { type LeakWatch, watchLeaks } from './leaks.ts'
export { type Postgres, startPostgres } from './postgres.ts'
export {
  type LoadVerbs,
  type ServiceVerbs,
  startFleet,
  startHerd,
  startLoad,
  startRelay,
  startServerProcess,
  startService,
} from './processes.ts'
export { childrenOf, commandLines, cpuMs, isAlive, residentBytes } from './procfs.ts'
export { type Product, type ProductOptions, startProduct } from './product.ts'
export { findProgram, lacksPrograms, type SystemProgram } from './programs.ts'
export { randomOf } from './random.ts'
export { startSshd } from './sshd.ts'
