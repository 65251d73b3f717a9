import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { launchBrowser, screenshot } from '../../src/browser.ts'
import { BROWSER_DOORS, EDGE_NAME } from '../../src/browser-doors.ts'
import { type Installation, startInstallation } from '../../src/installation.ts'
import { lacksPrograms } from '../../src/programs.ts'
import type { RunningApplication } from '../../src/zoo/application.ts'
import { type Application, DOORS, type DoorName, type Visit } from './application.ts'
import { codeServer } from './apps/code-server.ts'
import { comfyui } from './apps/comfyui.ts'
import { documentation } from './apps/documentation.ts'
import { gradio } from './apps/gradio.ts'
import { jupyterlab } from './apps/jupyterlab.ts'
import { nodeRed } from './apps/node-red.ts'
import { novnc } from './apps/novnc.ts'
import { streams } from './apps/streams.ts'
import { vite } from './apps/vite.ts'
import { webdav } from './apps/webdav.ts'
import { readResults } from './results.ts'

const APPLICATIONS: readonly Application[] = [
  ...[comfyui, jupyterlab, gradio, codeServer, novnc, vite, nodeRed],
  ...[webdav, streams, documentation],
]

/** What a step may take that is expected to succeed, and one that is expected to fail: what works is far quicker. */
const STEP_MS = { works: 30_000, fails: 2_500 }

const results = readResults(new URL('../../../../docs/applications.md', import.meta.url))
const slug = (text: string) => text.toLowerCase().replaceAll(/\W+/g, '-')

describe.skipIf(lacksPrograms('chromium'))('a real application, as a person uses it', () => {
  let directory: string
  let browser: Browser
  const installations = new Map<DoorName, Promise<Installation>>()

  const settings = new Map<DoorName, Record<string, string>>()

  /** One installation for each set of settings, started when the first door needs it. */
  function installationOf(door: DoorName): Promise<Installation> {
    const key = door === 'local' ? 'host' : door
    const starting = installations.get(key) ?? startInstallation(join(directory, slug(key)), settings.get(key))
    installations.set(key, starting)
    return starting
  }

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'cyberun-zoo-'))
    for (const door of DOORS) settings.set(door, await settingsOf(door))
    browser = await launchBrowser({
      localNames: [EDGE_NAME],
      trustedOrigins: [...settings.values()].flatMap(trustedOrigins),
    })
  })
  afterAll(async () => {
    await browser?.close()
    for (const starting of installations.values()) await (await starting)[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  describe.each(APPLICATIONS)('$name', (application) => {
    describe.skipIf(lacksPrograms(...application.programs))('works as docs/applications.md has it', () => {
      let running: RunningApplication
      let home: string

      beforeAll(async () => {
        home = join(directory, slug(application.name))
        mkdirSync(home)
        running = await application.start(home)
      })
      afterAll(() => running?.[Symbol.asyncDispose]())

      test('is known by what it answers', async () => {
        const { openTunnel, closeTunnel } = await installationOf('host')
        const { sessionId, profile } = await openTunnel(running.port, 'http')
        await closeTunnel(sessionId)
        expect(profile).toBe(application.profile)
      })

      describe.each(DOORS)('through the %s door', (door) => {
        let context: BrowserContext
        let page: Page
        let visit: Visit
        let close: () => Promise<void>

        beforeAll(async () => {
          const way = BROWSER_DOORS[door === 'sandboxed path' ? 'path' : door]
          const opened = await way.open(await installationOf(door), running.port)
          close = opened.close
          context = await browser.newContext({ viewport: { width: 1200, height: 800 } })
          page = await context.newPage()
          visit = { page, door, url: opened.url, directory: home, port: running.port }
          await page.goto(opened.url, { waitUntil: 'domcontentloaded' })
        })
        afterAll(async () => {
          await screenshot(page, slug(`${application.name} ${door}`))
          await context.close()
          await close()
        })

        test.each(Object.entries(application.steps))('%s', async (does, step) => {
          const result = results.get(application.name, does, door)
          const limit = STEP_MS[result]
          page.setDefaultTimeout(limit)
          if (result === 'works') await step(visit)
          else await expect(step(visit), 'docs/applications.md says that this fails').rejects.toThrow()
        })
      })
    })
  })
})

/** These speak plain HTTP here; elsewhere they have a certificate, and pages a secure context. */
function trustedOrigins(settings: Readonly<Record<string, string>>): string[] {
  const { CYBERUN_EDGE_PUBLIC_URL: url, CYBERUN_EDGE_TUNNEL_PORT_RANGE: range } = settings
  const [first = 0, last = -1] = (range ?? '').split('-').map(Number)
  const ports = range === undefined ? [] : Array.from({ length: last - first + 1 }, (_, i) => first + i)
  return [...(url === undefined ? [] : [url]), ...ports.map((port) => `http://${EDGE_NAME}:${port}`)]
}

async function settingsOf(door: DoorName): Promise<Record<string, string>> {
  if (door === 'sandboxed path') return BROWSER_DOORS.path.settings()
  const settings = await BROWSER_DOORS[door].settings()
  return door === 'path' ? { ...settings, CYBERUN_EDGE_DANGEROUSLY_ALLOW_PATH_PAGES: 'true' } : settings
}
