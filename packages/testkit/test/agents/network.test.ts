import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { findProgram, lacksPrograms } from '../../src/programs.ts'
import { until } from '../../src/until.ts'
import { agentsWorld, startAgent, temporaryDirectory } from './agents-world.ts'

interface Proxy {
  readonly url: string
  /** The targets it was asked to connect to, and was allowed to. */
  readonly connected: string[]
}

/** An HTTP proxy that understands CONNECT and nothing else, and wants a password when it is given one. */
async function connectProxy(password?: string): Promise<Proxy> {
  const connected: string[] = []
  const sockets = new Set<Socket>()
  const server = createHttpServer()
  server.on('connect', (request, visitor, head) => {
    const wanted = password && `Basic ${Buffer.from(`agent:${password}`).toString('base64')}`
    if (wanted && request.headers['proxy-authorization'] !== wanted) {
      visitor.end(
        'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n',
      )
      return
    }
    const { hostname, port } = new URL(`http://${request.url}`)
    const target = connect(Number(port), hostname.replace(/^\[|\]$/g, ''), () => {
      connected.push(request.url ?? '')
      visitor.write('HTTP/1.1 200 Connection established\r\n\r\n')
      target.write(head)
      target.pipe(visitor)
      visitor.pipe(target)
    })
    for (const [one, other] of [
      [visitor as Socket, target],
      [target, visitor as Socket],
    ] as const) {
      sockets.add(one)
      one.on('close', () => other.destroy())
      one.on('error', () => other.destroy())
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, connected }
}

/** An authority of our own, and a certificate of it for the loopback addresses. */
function privateAuthority(dir: string): { caFile: string; cert: string; key: string } {
  const openssl = (...args: string[]): void => {
    execFileSync(findProgram('openssl') ?? 'openssl', args, { cwd: dir, stdio: 'pipe' })
  }
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=Test authority')
  openssl(
    ...['req', '-x509', ...newKey, '-keyout', 'edge.key', '-out', 'edge.pem', '-subj', '/CN=edge'],
    ...['-CA', 'ca.pem', '-CAkey', 'ca.key', '-addext', 'subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost'],
  )
  const read = (name: string): string => readFileSync(join(dir, name), 'utf8')
  return { caFile: join(dir, 'ca.pem'), cert: read('edge.pem'), key: read('edge.key') }
}

const isLinked = (agent: { states: { kind: string }[] }) => agent.states.at(-1)?.kind === 'linked'

describe('between the agent and the server', () => {
  test('an IPv6 address', async () => {
    const world = await agentsWorld({ host: '::1' })
    const { rawKey } = await world.newKey()
    const agent = await startAgent(world, { agent_key: rawKey })
    await until(() => isLinked(agent))
  })

  test('a proxy, with a password', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const proxy = await connectProxy('pass:word@')
    const url = proxy.url.replace('http://', `http://agent:${encodeURIComponent('pass:word@')}@`)
    const agent = await startAgent(world, { agent_key: rawKey, proxy: url })
    await until(() => isLinked(agent))
    expect(proxy.connected).toEqual([`127.0.0.1:${world.port}`])
    expect(agent.lines.join('')).not.toContain('pass')
  })

  test('a proxy that refuses: the log says what to do', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const proxy = await connectProxy('password')
    const agent = await startAgent(world, { agent_key: rawKey, proxy: proxy.url })
    await until(() => agent.lines.some((line) => line.includes('link.failed')))
    expect(agent.lines.join('')).toMatch(/the proxy answered 407.*check proxy \(or HTTPS_PROXY\) and its password/)
    expect(proxy.connected).toEqual([])
  })
})

describe.skipIf(lacksPrograms('openssl'))('TLS with a private authority', () => {
  test('is trusted when ca_file names it, also through a proxy', async () => {
    const { caFile, ...tls } = privateAuthority(await temporaryDirectory())
    const world = await agentsWorld({ tls })
    const { rawKey } = await world.newKey()
    const direct = await startAgent(world, { agent_key: rawKey, agent_id: 'direct', ca_file: caFile })
    const proxy = await connectProxy()
    const proxied = await startAgent(world, {
      agent_key: rawKey,
      agent_id: 'proxied',
      ca_file: caFile,
      proxy: proxy.url,
    })
    await until(() => isLinked(direct) && isLinked(proxied))
    expect(proxy.connected).toEqual([`127.0.0.1:${world.port}`])
  })

  test('is refused without it, and the log says what to do', async () => {
    const { caFile: _, ...tls } = privateAuthority(await temporaryDirectory())
    const world = await agentsWorld({ tls })
    const { rawKey } = await world.newKey()
    const agent = await startAgent(world, { agent_key: rawKey })
    await until(() => agent.lines.some((line) => line.includes('link.failed')))
    expect(agent.lines.join('')).toContain('set ca_file for a private authority')
    expect(isLinked(agent)).toBe(false)
  })
})
