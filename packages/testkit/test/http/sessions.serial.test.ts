import { mkdtempSync, rmSync } from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TCP_SUBPROTOCOL } from '@cyberun/link'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { launchBrowser, screenshot } from '../../src/browser.ts'
import { type EndlessService, flow, startEndless } from '../../src/endless.ts'
import { type FaultRelay, startFaultRelay } from '../../src/fault-relay.ts'
import { type Installation, startInstallation } from '../../src/installation.ts'
import { type Product, startProduct } from '../../src/product.ts'
import { lacksPrograms } from '../../src/programs.ts'

let endless: EndlessService

beforeAll(async () => {
  endless = await startEndless()
})
afterAll(() => endless[Symbol.asyncDispose]())
const port = (): number => endless.port

describe('an open tunnel and its opener', { timeout: 60_000 }, () => {
  let directory: string
  let installation: Installation
  const open: { destroy(): void }[] = []

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'cyberun-sessions-'))
    installation = await startInstallation(directory, { CYBERUN_EDGE_VISITOR_NOTICE: 'true' })
  })
  afterEach(() => {
    for (const each of open.splice(0)) each.destroy()
  })
  afterAll(async () => {
    await installation[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  const list = async () => {
    const { client, agentId } = installation
    return (await client.call('GET /agents/{agentId}/tunnel', { params: { agentId } })).session_list
  }

  test('revoking cuts a download, a stream of events, a WebSocket and a TCP relay off within a second', async () => {
    const { client, agentId } = installation
    const http = await installation.openTunnel(port(), 'http', { profile: 'generic' })
    const tcp = await installation.openTunnel(port(), 'tcp')
    const live = [
      await flow(get(`${http.tunnelUrl}download`)),
      await flow(get(`${http.tunnelUrl}events`)),
      await flow(new WebSocket(http.tunnelUrl.replace('http', 'ws'))),
      await flow(new WebSocket(tcp.tunnelUrl, [TCP_SUBPROTOCOL]), 'GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    ]
    open.push(...live)
    await expect.poll(() => live.map(({ seen }) => seen() > 0)).toEqual([true, true, true, true])
    for (const session of await list()) expect([session.bytes_in > 0, session.bytes_out > 0]).toEqual([true, true])

    const began = performance.now()
    for (const sessionId of [http.sessionId, tcp.sessionId]) {
      const name = 'POST /agents/{agentId}/tunnel/{sessionId}/revoke'
      await client.call(name, { params: { agentId, sessionId } })
    }
    await Promise.all(live.map(({ ended }) => ended))
    const last = Math.max(...live.map(({ lastAt }) => lastAt()))
    expect(last - began, 'milliseconds to the last byte').toBeLessThan(1_000)
    expect((await fetch(`${http.tunnelUrl}page`)).status).toBe(404)
    for (const { sessionId } of [http, tcp]) await installation.closeTunnel(sessionId)
  })

  test('who comes is seen within a second', async () => {
    const { tunnelUrl, sessionId } = await installation.openTunnel(port(), 'http', { profile: 'generic' })
    const stream = await flow(get(`${tunnelUrl}events`, { headers: { 'User-Agent': 'a visitor' } }))
    open.push(stream)
    const viewers = async () => (await list()).flatMap(({ viewer_list }) => viewer_list)
    await expect
      .poll(viewers, { timeout: 1_000, interval: 50 })
      .toMatchObject([{ address: '127.0.0.1', user_agent: 'a visitor', open_count: 1 }])
    stream.destroy()
    await expect.poll(viewers, { timeout: 1_000, interval: 50 }).toMatchObject([{ open_count: 0 }])
    await installation.closeTunnel(sessionId)
  })

  test.skipIf(lacksPrograms('chromium'))(
    'a person reads the notice once, and goes on to the page they wanted',
    async () => {
      const { tunnelUrl, sessionId } = await installation.openTunnel(port(), 'http', { profile: 'generic' })
      await using browser = await launchBrowser()
      const page = await browser.newPage({ viewport: { width: 800, height: 600 } })
      await page.goto(`${tunnelUrl}page`)
      await screenshot(page, 'notice')
      expect(await page.textContent('h1')).toContain('somebody else’s machine')
      await page.click('a.next')
      // Both pages have the same address.
      await expect.poll(() => page.textContent('h1')).toBe('the service')
      expect(page.url()).toMatch(/\.localhost:\d+\/page$/)
      await page.reload()
      expect(await page.textContent('h1')).toBe('the service')
      expect(await page.evaluate(() => document.cookie)).toBe('')
      await installation.closeTunnel(sessionId)
    },
  )
})

describe.skipIf(lacksPrograms('chromium'))('an agent between two links', { timeout: 60_000 }, () => {
  let directory: string
  let relay: FaultRelay
  let product: Product

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'cyberun-waiting-'))
    product = await startProduct(directory, {
      dialThrough: async (edgePort) => {
        relay = await startFaultRelay({ port: edgePort })
        return relay.port
      },
    })
  })
  afterAll(async () => {
    await product[Symbol.asyncDispose]()
    await relay[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  test('the browser waits on a page that tries again by itself, and a form is not sent twice', async () => {
    const path = await product.openTunnel(port(), 'http')
    const address = `http://localhost:${product.edgePort}${path}page`
    await using browser = await launchBrowser()
    const context = await browser.newContext({ extraHTTPHeaders: { 'Cyberun-Skip-Notice': '1' } })
    const reader = await context.newPage()
    const sender = await context.newPage()
    for (const page of [reader, sender]) {
      await page.goto(address)
      expect(await page.textContent('h1')).toBe('the service')
    }

    relay.unplug()
    const [waiting] = await Promise.all([reader.reload(), sender.click('button')])
    expect(waiting?.status()).toBe(503)
    await screenshot(reader, 'waiting')
    expect(await reader.textContent('body')).toContain('tries again by itself')
    // It was sent a moment after the other, and is waited for as long.
    await expect.poll(() => sender.textContent('body')).toContain('did not arrive')
    const asked: string[] = []
    sender.on('request', (request) => void asked.push(request.method()))

    relay.heal()
    await reader.waitForFunction(() => document.querySelector('h1')?.textContent === 'the service', undefined, {
      timeout: 30_000,
    })
    expect(asked, 'nothing is sent again but by the person').toEqual([])
    expect(await sender.textContent('body')).toContain('did not arrive')
  })
})
