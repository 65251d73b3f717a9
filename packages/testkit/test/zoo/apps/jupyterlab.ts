import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../../src/free-port.ts'
import { requireProgram } from '../../../src/programs.ts'
import { until } from '../../../src/until.ts'
import { startApplication } from '../../../src/zoo/application.ts'
import { type Application, fileOf } from '../application.ts'

const TOKEN = 'a-token-as-jupyter-prints-it'

/** As `jupyter lab` starts it, with the token that it always has. */
export const jupyterlab: Application = {
  name: 'JupyterLab',
  profile: 'jupyter',
  programs: ['jupyter-lab'],
  async start(directory) {
    const port = await freePort()
    return startApplication({
      port,
      cwd: directory,
      command: [
        requireProgram('jupyter-lab'),
        '--no-browser',
        '--allow-root',
        `--port=${port}`,
        '--ServerApp.port_retries=0',
        `--IdentityProvider.token=${TOKEN}`,
        `--ServerApp.root_dir=${directory}`,
      ],
      readyPath: '/api',
    })
  },
  steps: {
    async 'signs in with its token'({ page }) {
      await page.fill('#password_input', TOKEN)
      await page.click('#login_submit')
      await page.waitForSelector('#jp-main-dock-panel')
    },
    async 'runs a cell'({ page }) {
      // The visitor before may have left something else open: JupyterLab shows it to whoever comes next.
      await page.click('.lm-TabBar-addButton >> visible=true')
      await page.click('.jp-LauncherCard[data-category="Notebook"]:visible')
      await page.waitForSelector('.jp-StatusBar-Widget:visible >> text=/Python 3 .* Idle/')
      await page.click('.jp-CodeCell .cm-content:visible')
      await page.keyboard.type('print("forty" + str(6 * 7 - 40))')
      await page.keyboard.press('Shift+Enter')
      await page.waitForSelector('.jp-OutputArea-output:visible:has-text("forty2")')
    },
    async 'its terminal works'({ page, door, directory }) {
      await page.click('.lm-TabBar-addButton >> visible=true')
      await page.click('.jp-LauncherCard[title="Start a new terminal session"]:visible')
      await page.click('.jp-Terminal:visible')
      await page.keyboard.type(`touch ${fileOf(door)}\n`)
      await until(() => existsSync(join(directory, fileOf(door))), { what: 'the file' })
    },
  },
}
