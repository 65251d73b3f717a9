import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocketServer } from 'ws'
import { launchBrowser } from '../../src/browser.ts'
import { BROWSER_DOORS, EDGE_NAME } from '../../src/browser-doors.ts'
import { startInstallation } from '../../src/installation.ts'
import { lacksPrograms } from '../../src/programs.ts'

/** Asks for everything by absolute paths, as a badly written plug-in does, and says what it got. */
const PAGE = `<!doctype html><title>service</title><link rel="stylesheet" href="/style.css"><p id="got"></p>
<script type="module">
  const got = {}
  const note = (name, promise) => promise.then((text) => { got[name] = text }, () => { got[name] = 'lost' })
  const text = (path, init) => fetch(path, init).then((answer) => (answer.ok ? answer.text() : 'lost'))
  await Promise.all([
    note('module', import('/module.js').then((module) => module.text)),
    note('posted', text('/echo', { method: 'POST', body: 'question' })),
    note('relative', text('./echo', { method: 'POST', body: 'nearby' })),
    note('cookie', text('/cookie')),
    note('socket', new Promise((resolve, reject) => {
      const socket = new WebSocket('ws://' + location.host + '/socket')
      socket.onmessage = (event) => resolve(event.data)
      socket.onerror = reject
    })),
  ])
  got.style = getComputedStyle(document.body).color
  document.getElementById('got').textContent = JSON.stringify(got)
</script>`

const WORKS = {
  ...{ module: 'imported', posted: 'question', relative: 'nearby', cookie: 'sid=1', socket: 'hello' },
  style: 'rgb(1, 2, 3)',
}
const DANGEROUS = { CYBERUN_EDGE_DANGEROUSLY_ALLOW_PATH_PAGES: 'true' }

const QUIET = { CYBERUN_EDGE_VISITOR_NOTICE: 'false' }

describe.skipIf(lacksPrograms('chromium'))('where no host of its own reaches a browser', () => {
  let browser: Browser
  let servicePort: number
  const service = createServer((request, response) => {
    if (request.method === 'POST') {
      request.pipe(response)
    } else if (request.url === '/') {
      response.writeHead(200, { 'Content-Type': 'text/html', 'Set-Cookie': 'sid=1; HttpOnly' }).end(PAGE)
    } else if (request.url === '/module.js') {
      response.writeHead(200, { 'Content-Type': 'text/javascript' }).end('export { text } from "/deeper.js"')
    } else if (request.url === '/deeper.js') {
      response.writeHead(200, { 'Content-Type': 'text/javascript' }).end('export const text = "imported"')
    } else if (request.url === '/style.css') {
      response.writeHead(200, { 'Content-Type': 'text/css' }).end('body { color: rgb(1, 2, 3) }')
    } else if (request.url === '/cookie') {
      response.end(request.headers.cookie ?? 'none')
    } else {
      response.writeHead(404).end()
    }
  })
  const sockets = new WebSocketServer({ server: service, path: '/socket' })

  beforeAll(async () => {
    sockets.on('connection', (socket) => socket.send('hello'))
    service.listen(0, '127.0.0.1')
    await once(service, 'listening')
    servicePort = (service.address() as AddressInfo).port
    browser = await launchBrowser({ localNames: [EDGE_NAME] })
  })
  afterAll(async () => {
    await browser.close()
    sockets.close()
    service.close()
    service.closeAllConnections()
  })

  /** Runs an installation with these settings; `open` opens a tunnel to the service. */
  async function within(
    settings: Record<string, string>,
    use: (open: () => Promise<string>) => Promise<void>,
  ): Promise<void> {
    const directory = mkdtempSync(join(tmpdir(), 'cyberun-doors-'))
    try {
      await using installation = await startInstallation(directory, { ...QUIET, ...settings })
      await use(async () => (await installation.openTunnel(servicePort, 'http')).tunnelUrl)
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  }

  /** A new person's browser. */
  async function newPerson(): Promise<Page> {
    return (await browser.newContext()).newPage()
  }

  async function visit(page: Page, url: string): Promise<Record<string, string>> {
    await page.goto(url)
    await page.waitForFunction(() => document.getElementById('got')?.textContent !== '')
    return JSON.parse((await page.textContent('#got')) ?? '') as Record<string, string>
  }

  test('the port door is an origin of the tunnel’s own: everything works, and the token leaves the address bar', async () => {
    await within(await BROWSER_DOORS.port.settings(), async (open) => {
      const page = await newPerson()
      const first = await open()
      expect(await visit(page, first)).toEqual(WORKS)
      const address = new URL(page.url())
      expect([address.hostname, address.pathname]).toEqual([EDGE_NAME, '/'])
      expect(address.port).not.toBe(new URL(first).port)
      expect(await visit(page, await open()), 'with the first tunnel’s cookies in the same browser').toEqual(WORKS)
      expect(new URL(page.url()).port).not.toBe(address.port)
      const names = (await page.context().cookies()).map(({ name }) => name)
      expect(new Set(names).size, 'ours and the service’s, of both').toBe(4)
    })
  })

  test('pages that were let out of the sandbox are healed, and their WebSockets while only one tunnel is in use', async () => {
    await within({ ...(await BROWSER_DOORS.path.settings()), ...DANGEROUS }, async (open) => {
      const page = await newPerson()
      expect(await visit(page, await open())).toEqual(WORKS)
      expect(await visit(page, await open())).toEqual({ ...WORKS, socket: 'lost' })
    })
  })

  test('pages in a sandbox reach their own tunnel by relative paths, and by absolute ones only from modules', async () => {
    await within(await BROWSER_DOORS.path.settings(), async (open) => {
      const lost = { posted: 'lost', cookie: 'lost', socket: 'lost', style: 'rgb(0, 0, 0)' }
      expect(await visit(await newPerson(), await open())).toEqual({ relative: 'nearby', module: 'imported', ...lost })
    })
  })

  test('where pages are refused a person is told what to do instead, and a script is served', async () => {
    await within({ ...(await BROWSER_DOORS.path.settings()), CYBERUN_EDGE_PATH_PAGES: 'refuse' }, async (open) => {
      const page = await newPerson()
      const url = await open()
      const answer = await page.goto(url)
      expect([answer?.status(), await page.textContent('body')]).toEqual([
        403,
        expect.stringContaining('cyberun forward'),
      ])
      const local = new URL(url)
      const got = await fetch(`http://127.0.0.1:${local.port}${local.pathname}cookie`)
      expect([got.status, await got.text()]).toEqual([200, 'none'])
    })
  })
})
