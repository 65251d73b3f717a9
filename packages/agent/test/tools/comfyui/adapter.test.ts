import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ComfyuiGeneration, startComfyui } from '@cyberun/testkit'
import { afterAll } from 'vitest'
import { runComfyuiSuite } from './suite.ts'

const directory = mkdtempSync(join(tmpdir(), 'cyberun-comfyui-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

for (const generation of ['ancient', 'classic', 'modern'] satisfies ComfyuiGeneration[]) {
  runComfyuiSuite({
    name: `a simulated ComfyUI (${generation})`,
    start: () => startComfyui({ baseDirectory: join(directory, generation), generation }),
    hasTestPack: true,
  })
}

/** README.md beside this file says how to start a real one without a GPU. */
const realUrl = process.env['CYBERUN_TEST_COMFYUI_URL']
if (realUrl !== undefined) {
  runComfyuiSuite({
    name: `the ComfyUI at ${realUrl}`,
    start: async () => ({ url: realUrl, [Symbol.asyncDispose]: async () => {} }),
    hasTestPack: true,
  })
}
