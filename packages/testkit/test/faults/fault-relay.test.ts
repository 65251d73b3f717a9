import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type FaultRelay, startFaultRelay } from '../../src/fault-relay.ts'

/** A service that echoes, and tells of each connection it got. */
let service: Server
let relay: FaultRelay
let accepted: Socket[] = []

beforeEach(async () => {
  accepted = []
  service = createServer({ allowHalfOpen: true }, (socket) => {
    accepted.push(socket)
    socket.on('error', () => socket.destroy())
    socket.pipe(socket)
  })
  service.listen(0, '127.0.0.1')
  await once(service, 'listening')
  relay = await startFaultRelay({ port: (service.address() as AddressInfo).port })
})

afterEach(async () => {
  await relay[Symbol.asyncDispose]()
  for (const socket of accepted) socket.destroy()
  service.close()
  await once(service, 'close')
})

async function dial(): Promise<Socket> {
  const socket = connect({ port: relay.port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
  socket.on('error', () => socket.destroy())
  await once(socket, 'connect')
  return socket
}

const closed = (socket: Socket) => new Promise<void>((resolve) => socket.once('close', () => resolve()))

/** Reads until `bytes` have come or the other end ended. */
async function read(socket: Socket, bytes: number): Promise<Buffer> {
  const got: Buffer[] = []
  let total = 0
  for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    got.push(chunk)
    total += chunk.length
    if (total >= bytes) break
  }
  return Buffer.concat(got)
}

test('without faults it passes bytes, half-closes and forgets the connection', async () => {
  const socket = await dial()
  socket.end('hello')
  expect((await read(socket, 99)).toString()).toBe('hello')
  expect(relay.delivered).toEqual({ toTarget: 5, fromTarget: 5 })
  await expect.poll(() => relay.connections, { interval: 2, timeout: 5_000 }).toBe(0)
})

test('a delay is a round trip and not a limit on the rate', async () => {
  relay.set({ delayMs: 500 })
  const socket = await dial()
  const body = Buffer.alloc(8 * 1024 * 1024, 7)
  const start = performance.now()
  socket.write(body)
  const first = await read(socket, 1)
  expect(performance.now() - start).toBeGreaterThanOrEqual(999)
  // A sleep per chunk of 64 KiB would need 128 × 500 ms, for which no test has the time.
  expect((await read(socket, body.length - first.length)).length).toBe(body.length - first.length)
  socket.destroy()
})

test('a stall holds every byte back and loses none', async () => {
  const socket = await dial()
  socket.write('a')
  await read(socket, 1)
  relay.set({ flow: 'stall' }, 'toTarget')
  socket.write('bcd')
  const before = relay.delivered.toTarget
  // What comes the other way was sent after it, and is here: it would have been there by now.
  accepted[0]?.write('other')
  expect((await read(socket, 5)).toString()).toBe('other')
  expect(relay.delivered.toTarget).toBe(before)
  relay.set({ flow: 'pass' }, 'toTarget')
  expect((await read(socket, 3)).toString()).toBe('bcd')
  socket.destroy()
})

test('a black hole keeps the sockets open and never gives them back', async () => {
  const lost = await dial()
  lost.write('a')
  await read(lost, 1)
  relay.blackHole()
  lost.write('gone')
  const during = await dial()
  during.write('gone too')
  // A client is connected before the relay has heard of it.
  await expect.poll(() => relay.connections).toBe(2)
  relay.heal()
  const after = await dial()
  after.write('here')
  expect((await read(after, 4)).toString()).toBe('here')
  expect(lost.destroyed || during.destroyed).toBe(false)
  expect(relay.delivered).toEqual({ toTarget: 5, fromTarget: 5 })
  expect(relay.connections).toBe(3)
  for (const socket of [lost, during, after]) socket.destroy()
})

test('an unplugged network ends connections until it heals', async () => {
  const before = await dial()
  relay.unplug()
  await closed(before)
  const during = connect({ port: relay.port, host: '127.0.0.1' })
  during.on('error', () => during.destroy())
  await closed(during)
  relay.heal()
  const after = await dial()
  after.write('back')
  expect((await read(after, 4)).toString()).toBe('back')
  after.destroy()
})

describe.each(['fin', 'rst'] as const)('a cut by %s', (how) => {
  test.each([0, 1, 7, 4096])('happens after exactly %i bytes', async (afterBytes) => {
    relay.set({ cut: { afterBytes, how } }, 'fromTarget')
    const socket = await dial()
    const errors: string[] = []
    socket.on('error', (error: NodeJS.ErrnoException) => errors.push(error.code ?? ''))
    const got: Buffer[] = []
    socket.on('data', (bytes) => got.push(bytes))
    socket.on('end', () => socket.end())
    socket.write(Buffer.alloc(10_000, 1))
    await closed(socket)
    if (how === 'fin') expect(Buffer.concat(got).length).toBe(afterBytes)
    else expect(errors).toEqual(['ECONNRESET'])
    expect(relay.delivered.fromTarget).toBe(afterBytes)
  })
})

test('split writes arrive in pieces, merged ones together', async () => {
  const socket = await dial()
  const sizes: number[] = []
  socket.on('data', (bytes) => sizes.push(bytes.length))
  const total = () => sizes.reduce((sum, size) => sum + size, 0)

  relay.set({ writes: { kind: 'split', bytes: 3 } }, 'fromTarget')
  socket.write('0123456789')
  await expect.poll(total, { interval: 2, timeout: 5_000 }).toBe(10)
  expect(sizes.length).toBeGreaterThan(1)

  sizes.length = 0
  relay.set({ writes: { kind: 'merge', bytes: 6, withinMs: 5_000 } }, 'fromTarget')
  for (const part of ['ab', 'cd', 'ef']) socket.write(part)
  await expect.poll(total, { interval: 2, timeout: 5_000 }).toBe(6)
  expect(sizes).toEqual([6])

  sizes.length = 0
  relay.set({ writes: { kind: 'merge', bytes: 1_000, withinMs: 20 } }, 'fromTarget')
  socket.write('late')
  await expect.poll(total, { interval: 2, timeout: 5_000 }).toBe(4)
  socket.destroy()
})

test('a broken side is a reset on the other', async () => {
  const socket = await dial()
  socket.write('a')
  await read(socket, 1)
  accepted[0]?.resetAndDestroy()
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
  expect(error.code).toBe('ECONNRESET')
})
