import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, getCACertificates } from 'node:tls'
import type { CloseReason } from '@cyberun/protocol'
import { acceptValue, newWebsocketKey } from './upgrade.ts'

/** Why a dial failed: which layer, and what it said. */
export type DialFailure =
  /** The server answered, but not with a WebSocket. `message` is its `error_message` when it sent one. */
  | { kind: 'http'; status: number; message: string; retryAfterMs?: number }
  /** A code of the system, such as ECONNREFUSED, ENOTFOUND, ETIMEDOUT. */
  | { kind: 'network'; code: string }
  /** A code of OpenSSL or Node, such as DEPTH_ZERO_SELF_SIGNED_CERT. */
  | { kind: 'tls'; code: string }
  /** The proxy did not connect us. */
  | { kind: 'proxy'; status: number }
  /** The server said go-away instead of welcome. */
  | { kind: 'refused'; reason: CloseReason }
  /** The other end does not speak this protocol. */
  | { kind: 'protocol'; message: string }

/** A dial did not end in a connection. Branch on `failure`; `message` is for people. */
export class DialError extends Error {
  override readonly name = 'DialError'
  readonly failure: DialFailure

  constructor(failure: DialFailure, cause?: unknown) {
    super(describe(failure), { cause })
    this.failure = failure
  }
}

export interface TransportOptions {
  /** ws, wss, http or https; the last two mean the first two. */
  url: URL
  headers: Readonly<Record<string, string>>
  subprotocols: readonly string[]
  /** An HTTP proxy that understands CONNECT. */
  proxy?: URL
  /** Certificates in PEM that are trusted besides those Node brings. */
  ca?: string
  signal: AbortSignal
}

/** A socket on which the server has switched to WebSocket. */
export interface Switched {
  socket: Socket
  /** What the server sent right after its answer. */
  head: Uint8Array
  subprotocol: string | undefined
  headers: IncomingMessage['headers']
  isSecure: boolean
}

const MAX_ERROR_BODY_BYTES = 64 * 1024

/** Connects, through the proxy and TLS where asked, and asks for a WebSocket. Rejects with `DialError`. */
export async function dialTransport(options: TransportOptions): Promise<Switched> {
  const { url, signal } = options
  const isSecure = url.protocol === 'wss:' || url.protocol === 'https:'
  const port = url.port ? Number(url.port) : isSecure ? 443 : 80
  const host = bareHost(url)
  const plain = options.proxy
    ? await connectThroughProxy(options.proxy, host, port, signal)
    : await connectPlain(host, port, signal)
  const socket = isSecure ? await secure(plain, host, options.ca, signal) : plain
  const switched = await switchProtocol(socket, options)
  return { ...switched, isSecure }
}

/** The host without the brackets of an IPv6 address. */
const bareHost = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, '$1')

function connectPlain(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  const socket = connectTcp({ host, port, noDelay: true, autoSelectFamily: true })
  return ready(socket, 'connect', signal, networkError)
}

async function connectThroughProxy(proxy: URL, host: string, port: number, signal: AbortSignal): Promise<Socket> {
  const isSecure = proxy.protocol === 'https:'
  const proxyHost = bareHost(proxy)
  const plain = await connectPlain(proxyHost, proxy.port ? Number(proxy.port) : isSecure ? 443 : 80, signal)
  const socket = isSecure ? await secure(plain, proxyHost, undefined, signal) : plain
  const authority = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`
  const credentials = Buffer.from(`${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`)
  return abortable(socket, signal, (resolve, reject) => {
    const request = httpRequest({
      createConnection: () => socket,
      method: 'CONNECT',
      path: authority,
      headers: {
        Host: authority,
        ...(proxy.username && { 'Proxy-Authorization': `Basic ${credentials.toString('base64')}` }),
      },
    })
    const answered = ({ statusCode }: IncomingMessage): void => {
      // Any of the class means yes (RFC 9110, section 9.3.6).
      if (statusCode !== undefined && statusCode >= 200 && statusCode < 300) resolve(socket)
      else reject(new DialError({ kind: 'proxy', status: statusCode ?? 0 }))
    }
    request.on('error', (error) => reject(networkError(error)))
    request.on('response', answered)
    request.on('connect', answered)
    request.end()
  })
}

function secure(plain: Socket, host: string, ca: string | undefined, signal: AbortSignal): Promise<Socket> {
  const socket = connectTls({
    socket: plain,
    ALPNProtocols: ['http/1.1'],
    ...(isIP(host) === 0 && { servername: host }),
    ...(isIP(host) !== 0 && { host }),
    ...(ca !== undefined && { ca: [...getCACertificates('default'), ca] }),
  })
  return ready(socket, 'secureConnect', signal, tlsError)
}

function ready(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  signal: AbortSignal,
  toError: (error: Error) => DialError,
): Promise<Socket> {
  return abortable(socket, signal, (resolve, reject) => {
    socket.once(event, () => resolve(socket))
    socket.once('error', (error) => reject(toError(error)))
  })
}

/** One step of a dial on `socket`, which is destroyed when the step fails or `signal` is aborted during it. */
function abortable<T>(
  socket: Socket,
  signal: AbortSignal,
  step: (resolve: (value: T) => void, reject: (error: DialError) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const fail = (error: DialError): void => {
      signal.removeEventListener('abort', onAbort)
      socket.on('error', () => {
        // Destroyed by us: what it says afterwards is of no interest.
      })
      socket.destroy()
      reject(error)
    }
    const onAbort = (): void => fail(abortError(signal))
    if (signal.aborted) {
      onAbort()
      return
    }
    signal.addEventListener('abort', onAbort, { once: true })
    step((value) => {
      signal.removeEventListener('abort', onAbort)
      resolve(value)
    }, fail)
  })
}

function switchProtocol(socket: Socket, options: TransportOptions): Promise<Omit<Switched, 'isSecure'>> {
  const { url, signal } = options
  const key = newWebsocketKey()
  return abortable(socket, signal, (resolve, reject) => {
    const request = httpRequest({
      createConnection: () => socket,
      path: url.pathname + url.search,
      headers: {
        Host: url.host,
        Upgrade: 'websocket',
        Connection: 'Upgrade',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': key,
        ...(options.subprotocols.length > 0 && { 'Sec-WebSocket-Protocol': options.subprotocols.join(', ') }),
        ...options.headers,
      },
    })
    request.on('error', (error) => reject(networkError(error)))
    request.on('response', (response) => {
      readRefusal(response).then(
        (failure) => reject(new DialError(failure)),
        (error: Error) => reject(networkError(error)),
      )
    })
    request.on('upgrade', (response, _socket, head) => {
      const wrong = judgeSwitch(response, key, options.subprotocols)
      if (wrong === undefined)
        resolve({ socket, head, subprotocol: subprotocolOf(response), headers: response.headers })
      else reject(new DialError({ kind: 'protocol', message: wrong }))
    })
    request.end()
  })
}

const subprotocolOf = (response: IncomingMessage): string | undefined => response.headers['sec-websocket-protocol']

/** What is wrong with a 101, by RFC 6455, section 4.1; undefined when nothing is. */
function judgeSwitch({ headers }: IncomingMessage, key: string, offered: readonly string[]): string | undefined {
  const subprotocol = headers['sec-websocket-protocol']
  if (headers['sec-websocket-accept'] !== acceptValue(key)) return 'the answer to the WebSocket key is wrong'
  if (headers['sec-websocket-extensions'] !== undefined) return 'the server wants a WebSocket extension'
  if (subprotocol !== undefined && !offered.includes(subprotocol))
    return 'the server chose a subprotocol nobody offered'
  return undefined
}

/** What an answer that is no WebSocket says. */
async function readRefusal(response: IncomingMessage): Promise<DialFailure> {
  const status = response.statusCode ?? 0
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_ERROR_BODY_BYTES) break
    chunks.push(chunk)
  }
  const seconds = Number(response.headers['retry-after'])
  const message = errorMessage(Buffer.concat(chunks).toString('utf8')) ?? `the server answered ${status}`
  return { kind: 'http', status, message, ...(seconds > 0 && { retryAfterMs: Math.round(seconds * 1000) }) }
}

function errorMessage(body: string): string | undefined {
  try {
    const value: unknown = JSON.parse(body)
    if (typeof value !== 'object' || value === null || !('error_message' in value)) return undefined
    return typeof value.error_message === 'string' ? value.error_message : undefined
  } catch {
    // Not JSON, so not from a server of ours: its status is all we tell.
    return undefined
  }
}

const codeOf = (error: Error): string => ('code' in error && typeof error.code === 'string' ? error.code : error.name)

/** An error of several addresses tried at once carries the errors of each. */
function networkError(error: Error): DialError {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error
  return new DialError({ kind: 'network', code: codeOf(first instanceof Error ? first : error) }, error)
}

function tlsError(error: Error): DialError {
  const code = codeOf(error)
  return code === 'ECONNRESET' || code === 'EPIPE' ? networkError(error) : new DialError({ kind: 'tls', code }, error)
}

function abortError(signal: AbortSignal): DialError {
  const isTimeout = signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError'
  return new DialError({ kind: 'network', code: isTimeout ? 'ETIMEDOUT' : 'ABORT_ERR' }, signal.reason)
}

function describe(failure: DialFailure): string {
  switch (failure.kind) {
    case 'http':
      return `the server refused with ${failure.status}: ${failure.message}`
    case 'network':
      return `no connection: ${failure.code}`
    case 'tls':
      return `no secure connection: ${failure.code}`
    case 'proxy':
      return `the proxy refused with ${failure.status}`
    case 'refused':
      return `the server said go-away: ${failure.reason.message}`
    case 'protocol':
      return `the other end does not speak this protocol: ${failure.message}`
  }
}
