import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { type ComfyuiGeneration, startComfyui } from '../../src/index.ts'

/** What the adapter suite does not ask of the simulator, but other programs of this repository may. */

const directory = mkdtempSync(join(tmpdir(), 'cyberun-comfyui-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const EMPTY = { class_type: 'EmptyImage', inputs: { width: 8, height: 8, batch_size: 1, color: 0 } }

async function post(url: string, body: unknown): Promise<{ status: number; text: string }> {
  const response = await fetch(url, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) })
  return { status: response.status, text: await response.text() }
}

for (const generation of ['ancient', 'classic', 'modern'] satisfies ComfyuiGeneration[]) {
  describe(`a ${generation} one`, () => {
    test('refuses bad prompts with the words of ComfyUI', async () => {
      await using comfyui = await startComfyui({ baseDirectory: join(directory, generation), generation })
      const prompt = `${comfyui.url}/prompt`
      expect(await post(prompt, '{')).toMatchObject({ status: 500 })
      expect(await post(prompt, {})).toMatchObject({ status: 400, text: expect.stringContaining('no_prompt') })
      expect(await post(prompt, { prompt: { 1: EMPTY } })).toMatchObject({
        text: expect.stringContaining('prompt_no_outputs'),
      })
      const unknown = await post(prompt, { prompt: { 1: { class_type: 'Nope', inputs: {} } } })
      expect(unknown.text).toContain(generation === 'modern' ? 'missing_node_type' : 'does not exist')
    })

    test('a foreign page is refused', async () => {
      await using comfyui = await startComfyui({ baseDirectory: join(directory, generation), generation })
      const answered = await fetch(`${comfyui.url}/queue`, { headers: { origin: 'http://evil.example' } })
      expect(answered.status).toBe(403)
    })
  })
}
