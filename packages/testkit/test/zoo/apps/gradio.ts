import { equal } from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { freePort } from '../../../src/free-port.ts'
import { requireProgram } from '../../../src/programs.ts'
import { until } from '../../../src/until.ts'
import { startApplication } from '../../../src/zoo/application.ts'
import { type Application, fileOf } from '../application.ts'

const SCRIPT = fileURLToPath(new URL('./gradio_app.py', import.meta.url))
const UPLOAD_BYTES = 100 * 1_000_000

/** A queue whose output comes in pieces, and a file that goes up and comes down again. */
export const gradio: Application = {
  name: 'Gradio',
  profile: 'gradio',
  programs: ['gradio'],
  async start(directory) {
    writeFileSync(join(directory, 'large.bin'), randomBytes(UPLOAD_BYTES))
    const port = await freePort()
    return startApplication({
      port,
      cwd: directory,
      command: [requireProgram('gradio'), SCRIPT],
      env: {
        GRADIO_SERVER_PORT: String(port),
        GRADIO_SERVER_NAME: '127.0.0.1',
        GRADIO_ANALYTICS_ENABLED: 'False',
        GRADIO_TEMP_DIR: join(directory, 'temp'),
        HF_HUB_OFFLINE: '1',
      },
    })
  },
  steps: {
    async 'a queued answer streams in'({ page, door, directory }) {
      const word = fileOf(door)
      const answer = page.getByLabel('Answer')
      try {
        await page.getByLabel('Say').fill(word)
        await page.click('text=Go')
        // It comes word by word: the second is written when the first was seen.
        await until(async () => (await answer.inputValue()) === `${word} 1`, { what: 'the first word' })
      } finally {
        writeFileSync(join(directory, word), 'go on')
      }
      await until(async () => (await answer.inputValue()) === `${word} 1 2 3 4`, { what: 'the last word' })
    },
    async 'uploads and downloads 100 MB'({ page, directory }) {
      const large = join(directory, 'large.bin')
      await page.setInputFiles('#up input[type=file]', large)
      const link = page.locator('#down a[download]')
      await link.waitFor()
      const [download] = await Promise.all([page.waitForEvent('download'), link.click()])
      const path = await download.path()
      equal(statSync(path).size, UPLOAD_BYTES)
      equal(await sha256(path), await sha256(large))
      await download.delete()
    },
  },
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}
