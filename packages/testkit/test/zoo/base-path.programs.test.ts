import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { launchBrowser } from '../../src/browser.ts'
import { BROWSER_DOORS, EDGE_NAME } from '../../src/browser-doors.ts'
import { freePort } from '../../src/free-port.ts'
import { startInstallation } from '../../src/installation.ts'
import { lacksPrograms, requireProgram } from '../../src/programs.ts'
import { startApplication } from '../../src/zoo/application.ts'
import { jupyterlab } from './apps/jupyterlab.ts'

/** The way that docs/tunnels.md tells: the tunnel first, then the service with the tunnel's prefix as its base path. */
test.skipIf(lacksPrograms('chromium', 'jupyter-lab'))(
  'JupyterLab with a base path runs a cell at the path door, and at the host door',
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'cyberun-base-path-'))
    try {
      const onPath = { ...(await BROWSER_DOORS.path.settings()), CYBERUN_EDGE_DANGEROUSLY_ALLOW_PATH_PAGES: 'true' }
      await using installation = await startInstallation(directory, onPath)
      const port = await freePort()
      const { tunnelUrl } = await installation.openTunnel(port, 'http', { path_mode: 'keep' })
      const url = new URL(tunnelUrl)
      await using _lab = await startApplication({
        port,
        cwd: directory,
        command: [
          requireProgram('jupyter-lab'),
          ...['--no-browser', '--allow-root', `--port=${port}`, '--ServerApp.port_retries=0'],
          ...['--IdentityProvider.token=', `--ServerApp.root_dir=${directory}`],
          `--ServerApp.base_url=${url.pathname}`,
        ],
        readyPath: `${url.pathname}api`,
      })
      await using browser = await launchBrowser({ localNames: [EDGE_NAME] })
      // By its own name the edge is another machine to this browser; by localhost it has a host door.
      for (const address of [tunnelUrl, `http://localhost:${url.port}${url.pathname}`]) {
        const page = await browser.newPage()
        await page.goto(address)
        await jupyterlab.steps['runs a cell']?.({ page, door: 'path', url: address, directory, port })
        const shown = new URL(page.url())
        expect(shown.pathname.startsWith(`${url.pathname}lab`)).toBe(true)
        expect(shown.hostname.endsWith('.localhost')).toBe(address !== tunnelUrl)
        await page.close()
      }
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  },
)
