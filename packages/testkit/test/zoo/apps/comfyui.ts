import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodePng } from '../../../src/comfyui/raster.ts'
import { startComfyui } from '../../../src/comfyui/simulator.ts'
import { requireProgram } from '../../../src/programs.ts'
import { until } from '../../../src/until.ts'
import type { Application } from '../application.ts'

/** Each writes one line into the page when what it does has worked. */
const say = (line: string) => `document.body.append(Object.assign(document.createElement('p'), { textContent: '${line}',
  style: 'position:fixed;bottom:0;z-index:99999;background:gold' }))`

/** As plugins are found written: for a ComfyUI that is at the root of its host and nowhere else. */
const PLUGINS = {
  'imports-from-root': `import { app } from '/scripts/app.js'
    app.registerExtension({ name: 'zoo.imports', setup() { ${say('imported from the root')} } })`,
  'fetches-from-root': `fetch('/api/system_stats').then((answer) => answer.json())
    .then(({ system }) => { if (system.comfyui_version) ${say('fetched from the root')} })`,
  'socket-at-root': `const socket = new WebSocket(location.origin.replace('http', 'ws') + '/ws?clientId=zoo-plugin')
    socket.onmessage = () => { socket.close(); ${say('connected at the root')} }`,
} as const

const COLOUR = { red: 0x20, green: 0x80, blue: 0x40 } as const
/** The picture is larger than this on the screen, and nothing else has its colour. */
const SHOWN_PIXELS = 10_000

/** A picture of one colour, saved. */
const WORKFLOW = {
  last_node_id: 2,
  last_link_id: 1,
  nodes: [
    {
      ...{ id: 1, type: 'EmptyImage', pos: [100, 150], size: [300, 130], flags: {}, order: 0, mode: 0, inputs: [] },
      ...{ outputs: [{ name: 'IMAGE', type: 'IMAGE', links: [1] }], properties: {} },
      widgets_values: [256, 256, 1, (COLOUR.red << 16) | (COLOUR.green << 8) | COLOUR.blue],
    },
    {
      ...{ id: 2, type: 'SaveImage', pos: [500, 150], size: [320, 320], flags: {}, order: 1, mode: 0 },
      ...{ inputs: [{ name: 'images', type: 'IMAGE', link: 1 }], outputs: [], properties: {}, widgets_values: ['zoo'] },
    },
  ],
  links: [[1, 1, 0, 2, 0, 'IMAGE']],
  groups: [],
  config: {},
  extra: {},
  version: 0.4,
}

/** The real web page of ComfyUI before the simulator of these tests, which paints in its stead. */
export const comfyui: Application = {
  name: 'ComfyUI',
  profile: 'comfyui',
  programs: ['comfyui-frontend'],
  async start(directory) {
    writeFileSync(join(directory, 'workflow.json'), JSON.stringify(WORKFLOW))
    const frontend = { folder: requireProgram('comfyui-frontend'), plugins: PLUGINS }
    return startComfyui({ baseDirectory: directory, generation: 'modern', frontend })
  },
  steps: {
    async 'opens a workflow'({ page, directory }) {
      await page.waitForSelector('canvas#graph-canvas')
      await page.waitForSelector('[data-testid="queue-button"]')
      const buffer = readFileSync(join(directory, 'workflow.json'))
      await page.setInputFiles('#comfy-file-input', { name: 'zoo.json', mimeType: 'application/json', buffer })
      await page.waitForSelector('text=zoo')
    },
    async 'a queued graph shows its picture'({ page }) {
      await page.click('[data-testid="queue-button"]')
      await until(async () => countPixels(await page.screenshot()) > SHOWN_PIXELS, { what: 'the picture' })
    },
    async 'a plugin imports /scripts/app.js'({ page }) {
      await page.waitForSelector('text=imported from the root')
    },
    async 'a plugin fetches /api/… from the root'({ page }) {
      await page.waitForSelector('text=fetched from the root')
    },
    async 'a plugin opens a WebSocket at the root'({ page }) {
      await page.waitForSelector('text=connected at the root')
    },
  },
}

/** Pixels of the picture's colour on a screenshot. */
function countPixels(png: Buffer): number {
  const { pixels } = decodePng(png) ?? { pixels: new Uint8Array() }
  let count = 0
  for (let i = 0; i < pixels.length; i += 3) {
    if (pixels[i] === COLOUR.red && pixels[i + 1] === COLOUR.green && pixels[i + 2] === COLOUR.blue) count++
  }
  return count
}
