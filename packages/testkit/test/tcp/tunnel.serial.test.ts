import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { freePort } from '../../src/free-port.ts'
import { type Installation, startInstallation } from '../../src/installation.ts'
import { SocketReader } from '../../src/socket-reader.ts'
import { runTcpSuite } from '../../src/tcp-suite.ts'

let directory: string
let installation: Installation

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-tcp-'))
  installation = await startInstallation(directory)
})
afterAll(async () => {
  await installation[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

runTcpSuite({ name: 'cyberun forward', start: ({ port }) => installation.forward(port) }, { bulkMebibytes: 256 })

describe('the TCP relay of the edge', () => {
  test('nothing listens at opening: target_refused', async () => {
    const port = await freePort()
    await expect(installation.openTunnel(port, 'tcp')).rejects.toMatchObject({ code: 'target_refused' })
    await expect(installation.openTunnel(port, 'http')).rejects.toMatchObject({ code: 'target_refused' })
  })

  test('nothing listens any more: the upgrade is refused, and no relay opens', async () => {
    const service = await listen()
    const { tunnelUrl } = await installation.openTunnel((service.address() as AddressInfo).port, 'tcp')
    await close(service)
    expect(await answerTo(tunnelUrl)).toBe(502)
  })

  test('through cyberun forward, a refused dial is a reset without a byte', async () => {
    const service = await listen()
    const { port, stop } = await installation.forward((service.address() as AddressInfo).port)
    await close(service)
    const reader = new SocketReader(connect(port, '127.0.0.1'))
    expect(await reader.waitEnd()).toBe('reset')
    expect(reader.receivedBytes).toBe(0)
    await stop()
  })

  test('a token that is none: 404', async () => {
    expect(await answerTo(`ws://127.0.0.1:${installation.edgePort}/tunnel/${'A'.repeat(43)}/`)).toBe(404)
  })

  test('a closed session is no longer there', async () => {
    const service = await listen()
    const { sessionId, tunnelUrl } = await installation.openTunnel((service.address() as AddressInfo).port, 'tcp')
    await installation.closeTunnel(sessionId)
    expect(await answerTo(tunnelUrl)).toBe(404)
    await close(service)
  })

  test('closing a session ends its connections', async () => {
    const service = await listen()
    const { sessionId, tunnelUrl } = await installation.openTunnel((service.address() as AddressInfo).port, 'tcp')
    const accepted = once(service, 'connection')
    const visitor = new WebSocket(tunnelUrl)
    await Promise.all([accepted, once(visitor, 'open')])
    const closed = once(visitor, 'close')
    await installation.closeTunnel(sessionId)
    await closed
    await close(service)
  })

  test('any WebSocket client can use it: message borders mean nothing', async () => {
    const service = await listen()
    service.on('connection', (socket) => socket.pipe(socket))
    const { tunnelUrl } = await installation.openTunnel((service.address() as AddressInfo).port, 'tcp')
    const visitor = new WebSocket(tunnelUrl)
    await once(visitor, 'open')
    let echoed = ''
    const whole = new Promise<void>((resolve) => {
      visitor.on('message', (data) => {
        echoed += String(data)
        if (echoed.length === 'one two three'.length) resolve()
      })
    })
    for (const text of ['one ', 'two ', 'three']) visitor.send(Buffer.from(text))
    await whole
    expect(echoed).toBe('one two three')
    visitor.terminate()
    await close(service)
  })
})

/** A service that accepts and is silent; how its connections end is not its concern. Nobody has its port after it. */
async function listen(): Promise<Server> {
  const service = createServer((socket) => socket.on('error', () => {})).listen(await freePort(), '127.0.0.1')
  await once(service, 'listening')
  return service
}

async function close(service: Server): Promise<void> {
  service.close()
  await once(service, 'close')
}

/** The status that answers an upgrade at `url`: 101 when the relay opens. */
async function answerTo(url: string): Promise<number | undefined> {
  const visitor = new WebSocket(url)
  const status = await new Promise<number | undefined>((resolve, reject) => {
    visitor.on('open', () => resolve(101))
    visitor.on('unexpected-response', (_request, response) => resolve(response.statusCode))
    visitor.on('error', reject)
  })
  visitor.on('error', () => {}) // Ending a socket that never opened is an error to this client.
  visitor.terminate()
  return status
}
