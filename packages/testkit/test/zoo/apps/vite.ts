import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../../src/free-port.ts'
import { requireProgram } from '../../../src/programs.ts'
import { startApplication } from '../../../src/zoo/application.ts'
import type { Application } from '../application.ts'

const PAGE =
  '<!doctype html><title>Vite</title><input id="note"><p id="shown"></p><script type="module" src="/main.js"></script>'
const MAIN = `import { message } from './message.js'
import './style.css'
const show = (text) => { document.getElementById('shown').textContent = text }
show(message)
import.meta.hot.accept('./message.js', (module) => show(module.message))
`
const SAVE_MS = 200
const messageOf = (text: string) => `export const message = '${text}'\n`

/** A development server with a page of three modules. */
export const vite: Application = {
  name: 'Vite',
  profile: 'vite',
  programs: ['vite'],
  async start(directory) {
    writeFileSync(join(directory, 'index.html'), PAGE)
    writeFileSync(join(directory, 'main.js'), MAIN)
    writeFileSync(join(directory, 'style.css'), 'p { color: rgb(1, 2, 3); font-size: 40px }\n')
    writeFileSync(join(directory, 'message.js'), messageOf('at first'))
    const port = await freePort()
    const words = ['--host', '127.0.0.1', '--port', String(port), '--strictPort']
    return startApplication({ port, cwd: directory, command: [process.execPath, requireProgram('vite'), ...words] })
  },
  steps: {
    async 'shows its page and style'({ page }) {
      await page.waitForFunction(() => {
        const shown = document.getElementById('shown')
        return shown?.textContent !== '' && shown !== null && getComputedStyle(shown).color === 'rgb(1, 2, 3)'
      })
    },
    async 'a saved file changes the page without a reload'({ page, door, directory }) {
      await page.fill('#note', 'not lost')
      const text = `changed for the ${door} door`
      // Nobody tells when the page has come to hear of changes: what it missed is saved once more.
      const saving = setInterval(() => writeFileSync(join(directory, 'message.js'), messageOf(text)), SAVE_MS)
      try {
        await page.waitForFunction((shown) => document.getElementById('shown')?.textContent === shown, text)
      } finally {
        clearInterval(saving)
      }
      if ((await page.inputValue('#note')) !== 'not lost') throw new Error('the page was loaded anew')
    },
  },
}
