import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RESET_CODES } from '@cyberun/protocol'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { type FaultRelay, startFaultRelay } from '../../src/fault-relay.ts'
import { answer, pattern, textAnswer } from '../../src/http-suite/build.ts'
import { readResponseHead, valuesOf } from '../../src/http-suite/message.ts'
import { ScriptedOrigin } from '../../src/http-suite/origin.ts'
import { VisitorConnection } from '../../src/http-suite/visitor.ts'
import { type Product, startProduct } from '../../src/product.ts'
import { SocketReader } from '../../src/socket-reader.ts'

/** What visitors of a tunnel see when the agent's link goes, and when it comes back. */
describe('the link to the agent is lost', { timeout: 30_000 }, () => {
  let directory: string
  let relay: FaultRelay
  let product: Product
  let origin: ScriptedOrigin
  let pathPrefix: string

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'cyberun-lost-'))
    product = await startProduct(directory, {
      dialThrough: async (port) => {
        relay = await startFaultRelay({ port })
        return relay.port
      },
    })
    origin = await ScriptedOrigin.listen()
    pathPrefix = (await product.openTunnel(origin.port, 'http')).replace(/\/$/, '')
  })
  afterAll(async () => {
    await product[Symbol.asyncDispose]()
    await relay[Symbol.asyncDispose]()
    await origin.close()
    rmSync(directory, { recursive: true, force: true })
  })
  /** The link is up: a request waits for it, if it is not. */
  beforeEach(async () => {
    origin.handle(async (request) => {
      await request.readBody()
      await request.reply(textAnswer('up'))
    })
    const connection = await visit()
    await expect.poll(async () => (await connection.exchange({})).head.status, { timeout: 10_000 }).toBe(200)
    connection.socket.destroy()
  })

  const visit = (): Promise<VisitorConnection> => {
    const { edgePort } = product
    const hostHeader = `127.0.0.1:${edgePort}`
    return VisitorConnection.open({ host: '127.0.0.1', port: edgePort, hostHeader, pathPrefix, extraHeaders: [] })
  }

  test.each(['length', 'chunked'] as const)(
    'inside a body (%s): the visitor sees it cut off, the service a reset',
    async (framing) => {
      const whole = answer({ body: { bytes: pattern(1 << 20), framing } })
      const gone = Promise.withResolvers<string>()
      origin.handle(async (request) => {
        await request.readBody()
        await request.write(whole.pieces[0] ?? '')
        gone.resolve(await request.gone())
      })
      const connection = await visit()
      await connection.write(connection.build({}))
      const reading = connection.readAnswer()
      await expect.poll(() => connection.reader.receivedBytes).toBeGreaterThan(0)
      relay.cutAll('rst')
      expect((await reading).body.complete).toBe(false)
      expect(await gone.promise).toBe('reset')
    },
  )

  test('inside an upload: the service sees a reset, the visitor 502', async () => {
    const begun = Promise.withResolvers<void>()
    const gone = Promise.withResolvers<string>()
    origin.handle(async (request) => {
      begun.resolve()
      gone.resolve(await request.gone())
    })
    const connection = await visit()
    await connection.write(connection.build({ method: 'PUT', fields: [['Content-Length', '1000']] }))
    await connection.write('some of it')
    await begun.promise
    relay.cutAll('rst')
    expect(await gone.promise).toBe('reset')
    expect((await readResponseHead(connection.reader)).status).toBe(502)
  })

  test('under a TCP tunnel: the relay’s close code names it, the service’s connection is reset', async () => {
    const service = createServer().listen(0, '127.0.0.1')
    await once(service, 'listening')
    const path = await product.openTunnel((service.address() as AddressInfo).port, 'tcp')
    const accepted = once(service, 'connection') as Promise<[Socket]>
    const visitor = new WebSocket(`ws://127.0.0.1:${product.edgePort}${path}`)
    const [[socket]] = await Promise.all([accepted, once(visitor, 'open')])
    const ends = Promise.all([once(visitor, 'close'), new SocketReader(socket).waitEnd()])
    relay.cutAll('rst')
    const [[code], end] = await ends
    expect([code, end]).toEqual([4000 + RESET_CODES.link_lost, 'reset'])
    service.close()
  })

  test('before the answer to a POST: 502, and it is not sent twice', async () => {
    const bodies: string[] = []
    const begun = Promise.withResolvers<void>()
    origin.handle(async (request) => {
      bodies.push((await request.readBody()).bytes.toString())
      begun.resolve()
      await request.gone()
    })
    const connection = await visit()
    await connection.write(connection.build({ method: 'POST', body: { bytes: 'pay', framing: 'length' } }))
    await begun.promise
    relay.cutAll('rst')
    expect((await connection.readAnswer('POST')).head.status).toBe(502)
    expect(bodies).toEqual(['pay'])
  })

  test('before the answer to a GET: it is asked for again over the next link', async () => {
    let asked = 0
    const begun = Promise.withResolvers<void>()
    origin.handle(async (request) => {
      await request.readBody()
      asked += 1
      begun.resolve()
      if (asked === 1) await request.gone()
      else await request.reply(textAnswer('second time'))
    })
    const connection = await visit()
    await connection.write(connection.build({}))
    await begun.promise
    relay.cutAll('rst')
    expect((await connection.readAnswer()).body.bytes.toString()).toBe('second time')
  })

  test('a request while the network is gone waits, and is served when it is back', async () => {
    relay.unplug()
    const connection = await visit()
    const answering = connection.exchange({ method: 'POST', body: { bytes: 'patient', framing: 'length' } })
    // The edge that has answered this has read what came before it: the end of the link, and the request.
    await fetch(`http://127.0.0.1:${product.edgePort}/`)
    await expect.poll(() => relay.connections).toBe(0)
    relay.heal()
    expect((await answering).body.bytes.toString()).toBe('up')
  })

  test('a network that stays away: 503 with Retry-After, and the tunnel is there again afterwards', async () => {
    relay.unplug()
    const connection = await visit()
    const { head } = await connection.exchange({})
    expect(head.status).toBe(503)
    expect(Number(valuesOf(head.fields, 'retry-after')[0])).toBeGreaterThan(0)
    relay.heal()
    await expect.poll(async () => (await connection.exchange({})).head.status, { timeout: 20_000 }).toBe(200)
  })
})
