import { match } from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../../src/free-port.ts'
import { requireProgram } from '../../../src/programs.ts'
import { startApplication } from '../../../src/zoo/application.ts'
import type { Application } from '../application.ts'

/** A button, a function, and the debug side bar, on a page of their own for each door. */
function flowOf(door: string): string {
  const id = (name: string) => `${name}-${door}`
  const z = id('flow')
  return JSON.stringify([
    { id: z, type: 'tab', label: door },
    {
      ...{ id: id('press'), type: 'inject', z, name: 'press', props: [{ p: 'payload' }], payload: '41' },
      ...{ repeat: '', crontab: '', once: false, topic: '' },
      ...{ payloadType: 'num', x: 150, y: 100, wires: [[id('add')]] },
    },
    {
      ...{ id: id('add'), type: 'function', z, name: 'add', func: `msg.payload += 1 // ${door}\nreturn msg` },
      ...{ outputs: 1, x: 320, y: 100, wires: [[id('show')]] },
    },
    { id: id('show'), type: 'debug', z, name: 'show', active: true, tosidebar: true, x: 480, y: 100, wires: [] },
  ])
}

export const nodeRed: Application = {
  name: 'Node-RED',
  profile: 'generic',
  programs: ['node-red'],
  async start(directory) {
    const port = await freePort()
    const settings = join(directory, 'settings.js')
    writeFileSync(
      settings,
      `module.exports = { uiHost: '127.0.0.1', uiPort: ${port}, flowFile: 'flows.json', credentialSecret: false,
        telemetry: { enabled: false }, editorTheme: { tours: false }, logging: { console: { level: 'warn' } } }\n`,
    )
    const words = ['--userDir', directory, '--settings', settings]
    return startApplication({ port, cwd: directory, command: [process.execPath, requireProgram('node-red'), ...words] })
  },
  steps: {
    async 'deploys a flow'({ page, door, port }) {
      await page.waitForSelector('#red-ui-header-button-deploy')
      await page.click('#red-ui-workspace-chart')
      await page.keyboard.press('Control+i')
      await page.fill('#red-ui-clipboard-dialog-import-text', flowOf(door))
      await page.keyboard.press('End')
      await page.click('#red-ui-clipboard-dialog-ok')
      await page.click(`#red-ui-workspace-tabs .red-ui-tab:has-text("${door}")`)
      await page.click('#red-ui-header-button-deploy')
      await page.waitForSelector('.red-ui-notification:has-text("Successfully deployed")')
      const flows = await fetch(`http://127.0.0.1:${port}/flows`)
      match(await flows.text(), new RegExp(`msg.payload \\+= 1 // ${door}`))
    },
    async 'a pressed button shows its message'({ page }) {
      await page.click('.red-ui-flow-node-button-button >> visible=true >> nth=0')
      await page.waitForSelector('.red-ui-debug-msg:has-text("42")')
    },
  },
}
