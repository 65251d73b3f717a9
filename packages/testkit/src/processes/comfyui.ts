import { parseArgs } from 'node:util'
import type { ComfyuiGeneration } from '../comfyui/faults.ts'
import { startComfyui } from '../comfyui/simulator.ts'

/**
 * The simulated ComfyUI as a program: `node comfyui.ts --port 8188 --base-directory DIR`, with the words that the real
 * one prints and, for tests, `--generation NAME` and `--faults JSON`. Faults change later with `PUT /simulator/faults`.
 */
const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '8188' },
    listen: { type: 'string', default: '127.0.0.1' },
    'base-directory': { type: 'string', default: '.' },
    generation: { type: 'string', default: 'classic' },
    faults: { type: 'string', default: '{}' },
  },
})

console.log('Total VRAM 24576 MB, total RAM 16384 MB')
const comfyui = await startComfyui({
  baseDirectory: values['base-directory'],
  port: Number(values.port),
  generation: values.generation as ComfyuiGeneration,
  faults: JSON.parse(values.faults),
  log: (line) => console.log(line),
})
console.log(`To see the GUI go to: ${comfyui.url}`)
