export { findProgram, lacksPrograms, type SystemProgram } from './programs.ts'
