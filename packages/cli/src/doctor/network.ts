import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { connect, isIP, type Socket } from 'node:net'
import { getCACertificates, type TLSSocket, connect as tlsConnect } from 'node:tls'
import { codeOf } from '../private-file.ts'
import { Finding, orLate, Skipped, type Step } from './steps.ts'

/** Where to get to, and how. */
export interface Route {
  /** Its scheme says whether TLS is spoken: https and wss do. */
  url: URL
  /** `http://[user:password@]host:port` of an HTTP CONNECT proxy. */
  proxy: URL | undefined
  /** PEM of a private authority, trusted besides the system's. */
  ca: string | undefined
  /** How the person gives a private authority for this address. */
  caRemedy: string
}

/** The layers below HTTP, each with a connection of its own. */
export function networkSteps(route: Route): Step[] {
  const steps: Step[] = [
    { layer: 'dns', run: (signal) => checkDns(route, signal) },
    { layer: 'tcp', run: (signal) => checkTcp(route, signal) },
  ]
  if (route.proxy) steps.push({ layer: 'proxy', run: (signal) => checkProxy(route, signal) })
  if (isSecure(route.url)) steps.push({ layer: 'tls', run: (signal) => checkTls(route, signal) })
  return steps
}

/** A connection on which HTTP can be spoken: through the proxy and TLS where they are in the way. */
export async function openConnection(route: Route, signal: AbortSignal): Promise<Socket> {
  const socket = await openTunnel(route, signal)
  return isSecure(route.url) ? openTls(route, socket, signal) : socket
}

export function isSecure(url: URL): boolean {
  return url.protocol === 'https:' || url.protocol === 'wss:'
}

/** The name without the brackets of an IPv6 address. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '')
}

function portOf(url: URL): number {
  return Number(url.port) || (isSecure(url) ? 443 : 80)
}

/** What is dialled from here: the proxy when there is one. */
function nextHop({ url, proxy }: Route): { host: string; port: number; called: string } {
  const hop = proxy ?? url
  return { host: hostOf(hop), port: portOf(hop), called: proxy ? 'the proxy' : 'the server' }
}

async function checkDns(route: Route, signal: AbortSignal): Promise<string | Skipped> {
  const { host, called } = nextHop(route)
  if (isIP(host) !== 0) return new Skipped(`${host} is an address already`)
  const late = () => new Finding(`looking up ${host} takes too long`, 'check which DNS servers this machine asks')
  try {
    const found = await orLate(lookup(host, { all: true }), signal, late)
    return `${host} is ${found.map(({ address }) => address).join(', ')}`
  } catch (error) {
    if (error instanceof Finding) throw error
    const remedy =
      codeOf(error) === 'EAI_AGAIN'
        ? 'no DNS server answers: check this machine’s network'
        : `check the spelling of ${called}'s name, or add its DNS record`
    throw new Finding(`the name ${host} does not resolve (${codeOf(error)})`, remedy)
  }
}

async function checkTcp(route: Route, signal: AbortSignal): Promise<string> {
  const socket = await dial(route, signal)
  const where = `${socket.remoteAddress} port ${socket.remotePort}`
  socket.destroy()
  return `connected to ${where}`
}

async function dial(route: Route, signal: AbortSignal): Promise<Socket> {
  const { host, port, called } = nextHop(route)
  const socket = connect({ host, port })
  socket.on('error', () => {}) // told by `once` here, and later by the end of what is read
  try {
    await once(socket, 'connect', { signal })
    return socket
  } catch (error) {
    socket.destroy()
    throw dialFinding(`${host} port ${port}`, called, signal.aborted ? 'timeout' : codeOf(error))
  }
}

function dialFinding(where: string, called: string, code: string): Finding {
  switch (code) {
    case 'ECONNREFUSED':
      return new Finding(
        `nothing listens on ${where}`,
        `start ${called} there, or check the port (API 8787, edge 8788 by default)`,
      )
    case 'timeout':
    case 'ETIMEDOUT':
      return new Finding(
        `${where} does not answer`,
        'a firewall on the way drops the packets: allow outgoing connections to it, or set HTTPS_PROXY',
      )
    default:
      return new Finding(`${where} cannot be reached (${code})`, 'check this machine’s network and routes')
  }
}

async function checkProxy(route: Route, signal: AbortSignal): Promise<string> {
  const socket = await openTunnel(route, signal)
  socket.destroy()
  return `${route.proxy?.host} connects us to ${route.url.host}`
}

/** A TCP connection to the target, by way of the proxy if there is one. */
async function openTunnel(route: Route, signal: AbortSignal): Promise<Socket> {
  const socket = await dial(route, signal)
  if (route.proxy === undefined) return socket
  try {
    const status = await askProxy(socket, route.proxy, `${route.url.hostname}:${portOf(route.url)}`, signal)
    if (status !== 200) throw proxyFinding(route, status)
    return socket
  } catch (error) {
    socket.destroy()
    throw error
  }
}

/** Sends CONNECT (RFC 9110, 9.3.6) and reads the status; undefined when the answer is no HTTP. */
async function askProxy(socket: Socket, proxy: URL, target: string, signal: AbortSignal): Promise<number | undefined> {
  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`
  const authorization = user === ':' ? '' : `Proxy-Authorization: Basic ${Buffer.from(user).toString('base64')}\r\n`
  socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${authorization}\r\n`)
  const late = () =>
    new Finding('the proxy does not answer', 'check HTTPS_PROXY: is that an HTTP proxy, and the port right?')
  const head = await orLate(readHead(socket), signal, late)
  const status = /^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1]
  return status === undefined ? undefined : Number(status)
}

const HEAD_BYTES = 16 * 1024

/** The bytes up to the empty line, or up to the end of the connection. What follows stays in the socket. */
async function readHead(socket: Socket): Promise<string> {
  let head = ''
  for (;;) {
    const chunk: Buffer | null = socket.read()
    if (chunk === null) {
      if (socket.readableEnded || socket.destroyed || head.length > HEAD_BYTES) return head
      await new Promise<void>((resolve) => {
        for (const event of ['readable', 'end', 'close', 'error']) socket.once(event, () => resolve())
      })
      continue
    }
    head += chunk.toString('latin1')
    const end = head.indexOf('\r\n\r\n')
    if (end === -1) continue
    const rest = Buffer.from(head.slice(end + 4), 'latin1')
    if (rest.length > 0) socket.unshift(rest)
    return head.slice(0, end)
  }
}

function proxyFinding({ url, proxy }: Route, status: number | undefined): Finding {
  const target = `${url.hostname}:${portOf(url)}`
  switch (status) {
    case undefined:
      return new Finding(
        `${proxy?.host} does not speak HTTP`,
        'check HTTPS_PROXY: it must be an HTTP proxy (http://host:port)',
      )
    case 407:
      return new Finding(
        'the proxy wants a user and password (407)',
        'put them into HTTPS_PROXY: http://user:password@host:port',
      )
    case 403:
    case 405:
      return new Finding(
        `the proxy does not allow connections to ${target} (${status})`,
        `ask its administrator to allow CONNECT to ${target}, or list the host in NO_PROXY`,
      )
    default:
      return new Finding(
        `the proxy cannot reach ${target} (${status})`,
        'check the server’s address, or list the host in NO_PROXY if it is reached directly',
      )
  }
}

async function checkTls(route: Route, signal: AbortSignal): Promise<string> {
  const socket = await openTls(route, await openTunnel(route, signal), signal)
  const { valid_to } = socket.getPeerCertificate()
  const version = socket.getProtocol()
  socket.destroy()
  return `${version}, certificate valid until ${new Date(valid_to).toISOString().slice(0, 10)}`
}

async function openTls(route: Route, socket: Socket, signal: AbortSignal): Promise<TLSSocket> {
  const host = hostOf(route.url)
  const secured = tlsConnect({
    socket,
    host,
    ...(isIP(host) === 0 && { servername: host }),
    ...(route.ca !== undefined && { ca: [...getCACertificates('default'), route.ca] }),
  })
  secured.on('error', () => {})
  try {
    await once(secured, 'secureConnect', { signal })
    return secured
  } catch (error) {
    secured.destroy()
    throw tlsFinding(route, signal.aborted ? 'timeout' : codeOf(error))
  }
}

function tlsFinding({ url, caRemedy }: Route, code: string): Finding {
  const { host } = url
  switch (code) {
    case 'timeout':
      return new Finding(
        `${host} accepts connections but says nothing`,
        'something on the way swallows the bytes, or the port belongs to another program',
      )
    case 'CERT_HAS_EXPIRED':
      return new Finding('the certificate has expired', 'renew it on the server; check this machine’s clock')
    case 'CERT_NOT_YET_VALID':
      return new Finding('the certificate is not valid yet', 'check the clocks of this machine and of the server')
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return new Finding(
        `the certificate is not for ${url.hostname}`,
        'use the name the certificate is for, or give the server one for this name',
      )
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
      return new Finding(`the certificate’s authority is not trusted here (${code})`, caRemedy)
    default:
      return new Finding(
        `no TLS with ${host} (${code})`,
        'if the server has no certificate use http:// or ws://; else check that the port is right',
      )
  }
}
