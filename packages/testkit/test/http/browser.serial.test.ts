import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocketServer } from 'ws'
import { launchBrowser, openTunnelPage } from '../../src/browser.ts'
import { type Installation, startInstallation } from '../../src/installation.ts'
import { lacksPrograms } from '../../src/programs.ts'

/** Asks for everything by absolute paths, as most applications do, and shows what came. */
const PAGE = `<!doctype html><title>service</title><p id="fetched"></p><p id="said"></p><p id="cookies"></p>
<script type="module">
  const show = (id, text) => { document.getElementById(id).textContent = text }
  show('cookies', document.cookie)
  const answer = await fetch('/data', { method: 'POST', body: 'question' })
  show('fetched', await answer.text())
  const socket = new WebSocket('ws://' + location.host + '/socket')
  socket.onopen = () => socket.send('hello')
  socket.onmessage = (event) => show('said', event.data)
</script>`

describe.skipIf(lacksPrograms('chromium'))('a tunnel in a browser', () => {
  let directory: string
  let installation: Installation
  const seenByService: string[] = []
  const service = createServer((request, response) => {
    seenByService.push(JSON.stringify([request.url, request.rawHeaders]))
    if (request.method === 'POST') request.pipe(response)
    else if (request.url === '/') response.setHeader('Content-Type', 'text/html').end(PAGE)
    else response.writeHead(404).end()
  })
  const sockets = new WebSocketServer({ server: service, path: '/socket' })

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'cyberun-browser-'))
    installation = await startInstallation(directory)
    service.listen(0, '127.0.0.1')
    await once(service, 'listening')
    sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(`you said ${data}`)))
  })
  afterAll(async () => {
    sockets.close()
    service.close()
    service.closeAllConnections()
    await installation[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  test('its URL leads to an origin of its own, and the token leaves the address bar', async () => {
    const { port } = service.address() as AddressInfo
    const { tunnelUrl, hostUrl = '' } = await installation.openTunnel(port, 'http')
    const token = tunnelUrl.split('/').at(-2) ?? ''
    expect(token).toMatch(/^[\w-]{43}$/)

    await using browser = await launchBrowser()
    const page = await browser.newPage()
    await openTunnelPage(page, tunnelUrl)
    await page.waitForFunction(() => document.getElementById('said')?.textContent !== '')

    expect(page.url()).toBe(new URL('/', hostUrl).href)
    expect(await page.textContent('#fetched')).toBe('question')
    expect(await page.textContent('#said')).toBe('you said hello')
    expect(await page.textContent('#cookies'), 'scripts of the page see no cookie of ours').toBe('')
    expect(await page.evaluate(() => document.referrer)).not.toContain(token)
    expect(seenByService.join('\n')).not.toContain(token)
    expect(seenByService.join('\n')).not.toContain('cyberun-tunnel')
  })
})
