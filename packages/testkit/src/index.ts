export { type CutKind, type Direction, type FaultRelay, type Faults, startFaultRelay } from './fault-relay.ts'
export { findProgram, lacksPrograms, type SystemProgram } from './programs.ts'
