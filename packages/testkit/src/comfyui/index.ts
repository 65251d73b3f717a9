export { type ComfyuiFaults, type ComfyuiGeneration, NO_FAULTS } from './faults.ts'
export { type ComfyuiOptions, type SimulatedComfyui, startComfyui } from './simulator.ts'
