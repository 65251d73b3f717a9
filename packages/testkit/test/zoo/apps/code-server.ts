import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../../src/free-port.ts'
import { requireProgram } from '../../../src/programs.ts'
import { startApplication } from '../../../src/zoo/application.ts'
import { type Application, fileOf } from '../application.ts'

export const codeServer: Application = {
  name: 'code-server',
  profile: 'code-server',
  programs: ['code-server'],
  async start(directory) {
    const folder = join(directory, 'project')
    mkdirSync(folder)
    writeFileSync(join(folder, 'hello.txt'), 'a line of a real file\n')
    const port = await freePort()
    return startApplication({
      port,
      cwd: directory,
      command: [
        process.execPath,
        requireProgram('code-server'),
        '--auth=none',
        `--bind-addr=127.0.0.1:${port}`,
        `--user-data-dir=${join(directory, 'data')}`,
        `--extensions-dir=${join(directory, 'extensions')}`,
        `--config=${join(directory, 'config.yaml')}`,
        '--disable-telemetry',
        '--disable-update-check',
        '--disable-workspace-trust',
        '--disable-getting-started-override',
        folder,
      ],
      readyPath: '/healthz',
    })
  },
  steps: {
    async 'opens a folder and a file'({ page }) {
      await page.dblclick('.explorer-folders-view [aria-label^="hello.txt"]')
      await page.waitForSelector('.view-line:has-text("a line of a real file")')
    },
    async 'its terminal echoes'({ page, door }) {
      await page.keyboard.press('Control+`')
      await page.waitForSelector('.terminal.xterm')
      await page.click('.terminal.xterm')
      await page.keyboard.type(`touch ${fileOf(door)}\n`)
      // Seen without a look at the disk: the list of files follows what happens in the folder.
      await page.waitForSelector(`.explorer-folders-view [aria-label^="${fileOf(door)}"]`)
    },
  },
}
