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

    test('takes a repeated id twice, or refuses it', async () => {
      await using comfyui = await startComfyui({ baseDirectory: join(directory, generation), generation })
      const prompt = { 1: EMPTY, 2: { class_type: 'PreviewImage', inputs: { images: ['1', 0] } } }
      const body = { prompt, prompt_id: '0b9f4c1e-0d0c-4d5e-9a44-1f2f9d2a7c11' }
      expect(await post(`${comfyui.url}/prompt`, body)).toMatchObject({ status: 200 })
      expect(await post(`${comfyui.url}/prompt`, body)).toMatchObject({ status: generation === 'modern' ? 409 : 200 })
      const shouting = { ...body, prompt_id: body.prompt_id.toUpperCase() }
      expect(await post(`${comfyui.url}/prompt`, shouting)).toMatchObject({
        status: generation === 'modern' ? 400 : 200,
      })
    })

    test('a second socket under one id is deaf when the first ends, until that was mended', async () => {
      await using comfyui = await startComfyui({ baseDirectory: join(directory, generation), generation })
      const dial = async (): Promise<{ socket: WebSocket; heard: string[] }> => {
        const socket = new WebSocket(`${comfyui.url.replace('http', 'ws')}/ws?clientId=same`)
        const heard: string[] = []
        socket.onmessage = ({ data }) => heard.push(String(data))
        await expect.poll(() => heard.length, { timeout: 20_000 }).toBeGreaterThan(0)
        return { socket, heard }
      }
      const [first, second] = [await dial(), await dial()]
      await new Promise((resolve) => {
        first.socket.onclose = resolve
        first.socket.close()
      })
      const prompt = { 1: EMPTY, 2: { class_type: 'PreviewImage', inputs: { images: ['1', 0] } } }
      const hears = async (): Promise<boolean> => {
        const { text } = await post(`${comfyui.url}/prompt`, { prompt, client_id: 'same' })
        const history = async () => (await fetch(`${comfyui.url}/history/${JSON.parse(text).prompt_id}`)).text()
        await expect.poll(history, { timeout: 20_000 }).toContain('execution_success')
        return second.heard.splice(0).some((message) => message.includes('execution_success'))
      }
      // The server may see the end of the first a moment after its client.
      await expect.poll(hears, { timeout: 20_000 }).toBe(generation === 'modern')
      second.socket.close()
    })

    test('a foreign page is refused', async () => {
      await using comfyui = await startComfyui({ baseDirectory: join(directory, generation), generation })
      const answered = await fetch(`${comfyui.url}/queue`, { headers: { origin: 'http://evil.example' } })
      expect(answered.status).toBe(403)
    })
  })
}
