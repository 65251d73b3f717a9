import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { DialError } from '@cyberun/link'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type FaultRelay, type LeakWatch, startFaultRelay, watchLeaks } from '../../src/index.ts'
import { dialGateway, exchange, type LinkGateway, startLinkGateway } from './link-gateway.ts'

let watch: LeakWatch
let gateway: LinkGateway
let relay: FaultRelay

beforeEach(async () => {
  watch = watchLeaks()
  gateway = await startLinkGateway()
  relay = await startFaultRelay({ port: gateway.port })
})

/** Whatever a test did to the network, nothing of it is left. */
afterEach(async () => {
  await relay[Symbol.asyncDispose]()
  await gateway[Symbol.asyncDispose]()
  await expect.poll(watch.leftovers, { timeout: 12_000 }).toEqual([])
  watch[Symbol.dispose]()
})

/** 96 KiB without a pattern, so that a byte at a wrong place shows. */
const BODY = Buffer.concat(Array.from({ length: 3072 }, (_, at) => createHash('sha256').update(`${at}`).digest()))

const WAYS = [
  ['toTarget', 'fin'],
  ['toTarget', 'rst'],
  ['fromTarget', 'fin'],
  ['fromTarget', 'rst'],
] as const

/** `count` byte positions spread over the first `total` bytes, the first and last included. */
function positions(total: number, count: number): number[] {
  return Array.from({ length: count }, (_, at) => Math.round((at * total) / (count - 1)))
}

/** Bytes each way of a handshake alone, or with an exchange after it. */
async function bytesOnTheWire(withExchange: boolean): Promise<FaultRelay['delivered']> {
  const link = await dialGateway(relay.port)
  if (withExchange) await exchange(link, BODY)
  const delivered = { ...relay.delivered }
  link.close({ code: 'done', message: 'measured' })
  await link.closed
  return delivered
}

describe.each(WAYS)('a cut %s by %s', (way, how) => {
  test('at any byte of the handshake ends the dial, at once and at both ends', { timeout: 60_000 }, async () => {
    const total = (await bytesOnTheWire(false))[way]
    for (const afterBytes of positions(total, 40)) {
      relay.set({ cut: { afterBytes, how } }, way)
      const dialled = await dialGateway(relay.port).catch((error: unknown) => error)
      if (dialled instanceof Error) expect(dialled).toBeInstanceOf(DialError)
      else relay.cutAll(how)
      await expect.poll(() => [gateway.links.size, relay.connections], { interval: 1, timeout: 5_000 }).toEqual([0, 0])
    }
  })

  test('at any byte of the traffic resets the streams and closes the link', { timeout: 60_000 }, async () => {
    const handshake = (await bytesOnTheWire(false))[way]
    const total = (await bytesOnTheWire(true))[way] - handshake
    for (const afterBytes of positions(total - handshake, 25)) {
      relay.set({ cut: { afterBytes: handshake + afterBytes, how } }, way)
      const link = await dialGateway(relay.port).catch((error: unknown) => error)
      if (link instanceof Error) {
        expect(link).toBeInstanceOf(DialError)
        continue
      }
      const ended = await exchange(link as Awaited<ReturnType<typeof dialGateway>>, BODY)
      if (ended.kind === 'reset') expect(ended.code).toBe('link_lost')
      expect(BODY.subarray(0, ended.bytes.length).equals(ended.bytes)).toBe(true)
      relay.cutAll(how)
      await expect.poll(() => [gateway.links.size, relay.connections], { interval: 1, timeout: 5_000 }).toEqual([0, 0])
    }
  })
})

describe.each([
  ['split into single bytes', { kind: 'split', bytes: 1 }, BODY.subarray(0, 200)],
  ['split into threes', { kind: 'split', bytes: 3 }, BODY.subarray(0, 500)],
  ['merged', { kind: 'merge', bytes: 40_000, withinMs: 5 }, BODY],
] as const)('writes %s', (_, writes, body) => {
  test('change nothing that arrives', async () => {
    relay.set({ writes })
    const link = await dialGateway(relay.port)
    const ended = await exchange(link, body)
    expect(ended.kind).toBe('complete')
    expect(ended.bytes.equals(body)).toBe(true)
    link.close({ code: 'done', message: 'exchanged' })
    await link.closed
  })
})

test('a black hole is noticed within 5 s at both ends', async () => {
  const link = await dialGateway(relay.port)
  const [other] = gateway.links
  if (other === undefined) throw new Error('the gateway has no link')
  relay.blackHole()
  const start = performance.now()
  const reasons = await Promise.all([link.closed, other.closed])
  expect(performance.now() - start).toBeLessThanOrEqual(5_000)
  expect(reasons.map((reason) => reason.code)).toEqual(['dead', 'dead'])
})

test('a black hole in one direction only is noticed within 5 s at both ends', async () => {
  const link = await dialGateway(relay.port)
  const [other] = gateway.links
  if (other === undefined) throw new Error('the gateway has no link')
  relay.set({ flow: 'swallow' }, 'toTarget')
  const start = performance.now()
  await Promise.all([link.closed, other.closed])
  expect(performance.now() - start).toBeLessThanOrEqual(5_000)
})

test('a stall shorter than the limit loses nothing', async () => {
  const link = await dialGateway(relay.port)
  const going = exchange(link, BODY)
  relay.set({ flow: 'stall' })
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  relay.set({ flow: 'pass' })
  const ended = await going
  expect(ended.kind).toBe('complete')
  expect(ended.bytes.equals(BODY)).toBe(true)
  link.close({ code: 'done', message: 'exchanged' })
  await link.closed
})

test('an end and a reset right behind it close the socket at the other end', async () => {
  const services = new Set<Socket>()
  const service = createServer((socket) => {
    services.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => services.delete(socket))
    socket.write(Buffer.alloc(4 * 1024 * 1024))
  }).listen(0, '127.0.0.1')
  await once(service, 'listening')
  const { port } = service.address() as AddressInfo
  const link = await dialGateway(relay.port)
  for (let at = 0; at < 8; at++) {
    const arrived = Promise.withResolvers<void>()
    const stream = link.open(
      { target: { kind: 'tcp', port }, priority: 'bulk' },
      { onData: () => arrived.resolve(), onEnd() {}, onReset() {}, onDrain() {} },
    )
    await arrived.promise
    stream.end()
    stream.reset('cancelled')
  }
  await expect.poll(() => services.size, { interval: 5, timeout: 5_000 }).toBe(0)
  link.close({ code: 'done', message: 'exchanged' })
  service.close()
})
