import { once } from 'node:events'
import { createServer as createHttpServer, type IncomingMessage, request } from 'node:http'
import { type AddressInfo, createServer, type ListenOptions, type Server } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { PortDoors } from '../../src/tunnels/doors/port-doors.ts'
import { SILENT, startBed } from './bed.ts'

let stack: AsyncDisposableStack

beforeEach(() => {
  stack = new AsyncDisposableStack()
})
afterEach(() => stack.disposeAsync())

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  stack.defer(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** Three ports in a row that are free, and that the system does not give to whoever asks for any port. */
async function freeRange(): Promise<{ first: number; last: number }> {
  for (let first = 20_000 + (process.pid % 3_000) * 3; ; first += 3) {
    const servers = [0, 1, 2].map((i) => createServer().listen(first + i, '127.0.0.1'))
    const listening = await Promise.allSettled(servers.map((server) => once(server, 'listening')))
    const closing = servers.filter((server) => server.listening).map((server) => once(server.close(), 'close'))
    await Promise.all(closing)
    if (listening.every(({ status }) => status === 'fulfilled')) return { first, last: first + 2 }
  }
}

async function startDoors(range: { first: number; last: number }, ports: readonly number[] = []): Promise<PortDoors> {
  const doors = new PortDoors({ range, host: '127.0.0.1', log: SILENT })
  stack.defer(() => doors.stop())
  await doors.start((port) => createServer((socket) => socket.end(String(port))), ports)
  return doors
}

test('ports are given in turn, so that one comes round again as late as can be', async () => {
  const range = await freeRange()
  const [one, two, three] = [range.first, range.first + 1, range.last]
  const doors = await startDoors(range)
  expect(await doors.take()).toBe(one)
  doors.release(one)
  doors.release(one)
  expect([await doors.take(), await doors.take(), await doors.take(), await doors.take()]).toEqual([
    two,
    three,
    one,
    undefined,
  ])
  doors.release(two)
  expect(doors.has(two)).toBe(false)
  expect(await doors.take()).toBe(two)
  doors.continueAfter(9)
  doors.release(three)
  expect(await doors.take(), 'the last one was of another range').toBe(three)
})

test('a port that another program has is left out, also when a tunnel had it before', async () => {
  const range = await freeRange()
  const other = createServer().listen(range.first, '127.0.0.1')
  await once(other, 'listening')
  stack.defer(() => void other.close())
  const doors = await startDoors(range, [range.first, range.last])
  expect([doors.has(range.first), doors.has(range.last)]).toEqual([false, true])
  const taken = await Promise.all([doors.take(), doors.take()])
  expect(taken.filter((port) => port !== undefined)).toEqual([range.first + 1])
})

test('the port of a tunnel that another program has is given to no other tunnel, until that tunnel gives it back', async () => {
  const range = await freeRange()
  const other = createServer().listen(range.first, '127.0.0.1')
  await once(other, 'listening')
  const doors = await startDoors(range, [range.first, range.first + 1])
  await once(other.close(), 'close')
  expect([await doors.take(), await doors.take()]).toEqual([range.last, undefined])
  doors.release(range.first)
  expect(await doors.take()).toBe(range.first)
})

test('a port that is given back while its listener is being opened is closed, and free', async () => {
  const range = await freeRange()
  const doors = new PortDoors({ range, host: '127.0.0.1', log: SILENT })
  stack.defer(() => doors.stop())
  const starting = doors.start(() => createServer(), [range.first])
  doors.release(range.first)
  await starting
  expect(doors.has(range.first)).toBe(false)
  expect(await doors.take()).toBe(range.first)
})

test('of two that are taken at once the later one counts as given last, whichever is there first', async () => {
  const range = await freeRange()
  const doors = new PortDoors({ range, host: '127.0.0.1', log: SILENT })
  stack.defer(() => doors.stop())
  const slow = Promise.withResolvers<void>()
  await doors.start((port) => {
    const server = createServer()
    if (port !== range.first) return server
    const listen = server.listen.bind(server)
    const later = (at: ListenOptions): Server => {
      void slow.promise.then(() => listen(at))
      return server
    }
    return Object.assign(server, { listen: later })
  }, [])
  const first = doors.take()
  expect(await doors.take()).toBe(range.first + 1)
  slow.resolve()
  expect(await first).toBe(range.first)
  doors.release(range.first + 1)
  expect(await doors.take()).toBe(range.last)
})

test('without a range, and before it is started or after it is stopped, there are no ports', async () => {
  const none = new PortDoors({ range: undefined, host: '127.0.0.1', log: SILENT })
  await none.start(() => createServer(), [])
  expect(await none.take()).toBeUndefined()
  const range = await freeRange()
  const early = new PortDoors({ range, host: '127.0.0.1', log: SILENT })
  expect(await early.take()).toBeUndefined()
  const doors = await startDoors(range)
  const port = await doors.take()
  doors.stop()
  expect([port !== undefined && doors.has(port), await doors.take()]).toEqual([false, undefined])
})

test('what comes to the port of a tunnel is the tunnel’s', async () => {
  const service = createHttpServer((incoming, response) => {
    response.setHeader('Set-Cookie', 'a=1; Path=/')
    response.end(`${incoming.url} ${incoming.headers.host} ${incoming.headers.cookie}`)
  })
  const servicePort = await listen(service)
  const portDoors = new PortDoors({ range: await freeRange(), host: '127.0.0.1', log: SILENT })
  await using bed = await startBed({ portDoors })
  const edgePort = (await portDoors.take()) ?? 0
  const tunnel = bed.open(servicePort, { edgePort })
  const get = async (path: string, headers: Record<string, string> = {}): Promise<IncomingMessage> => {
    const outgoing = request({ host: '127.0.0.1', port: edgePort, path, headers, agent: false }).end()
    const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
    return incoming
  }
  const swapped = await get(`/tunnel/${tunnel.facts.token}/x`)
  expect([swapped.statusCode, swapped.headers.location]).toEqual([302, `http://127.0.0.1:${edgePort}/x`])
  const cookie = swapped.headers['set-cookie']?.[0]?.split(';')[0] ?? ''
  const name = `cyberun.${tunnel.facts.label}.b`
  const answer = await get('/x', { Cookie: `${cookie}; ${name}=2; other=3`, 'User-Agent': 'Mozilla/5.0' })
  let body = ''
  for await (const chunk of answer) body += chunk
  expect(body).toBe(`/x localhost:${servicePort} b=2`)
  expect(answer.headers['set-cookie']).toEqual([`cyberun.${tunnel.facts.label}.a=1; Path=/`, 'a=1; Path=/'])
  expect((await get('/x')).statusCode).toBe(401)
  bed.close(tunnel)
  expect((await get('/x', { Cookie: cookie })).statusCode, 'until its listener is released, too').toBe(404)
})
