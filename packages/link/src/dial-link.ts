import type { CloseReason, Limits, StreamHandler } from '@cyberun/protocol'
import { LIMITS } from '@cyberun/protocol'
import { tryAdoption } from './adopt.ts'
import { type Greeting, LinkConnection } from './link-connection.ts'
import type { Log } from './log.ts'
import { PumpSocket } from './pump-socket.ts'
import { timeLimit } from './time-limit.ts'
import { DialError, dialTransport } from './transport.ts'
import type { Link } from './types.ts'
import { CHALLENGE_HEADER, LINK_SUBPROTOCOL } from './upgrade.ts'

/** How long connecting, TLS, the upgrade and the welcome may take together. */
const HANDSHAKE_MS = 15_000

export interface DialLinkOptions {
  url: URL
  /** Sent with the upgrade, such as Authorization. */
  headers: Readonly<Record<string, string>>
  /** Makes the hello, given the challenge of the server's answer (empty when it sent none). */
  hello(challenge: string): Greeting
  onStream: StreamHandler
  /** An HTTP proxy that understands CONNECT. */
  proxy?: URL
  /** Certificates in PEM that are trusted besides those Node brings. */
  ca?: string
  /** Mask over plain ws: `zero` (the default) costs nothing, `random` is for unknown intermediaries. wss: always zero. */
  maskPlain?: 'zero' | 'random'
  signal?: AbortSignal
  limits?: Partial<Limits>
  log?: Log
}

/** Dials a server and says hello. Rejects with `DialError`; resolves when the server has welcomed us. */
export async function dialLink(options: DialLinkOptions): Promise<Link> {
  using limit = timeLimit(HANDSHAKE_MS, options.signal)
  await tryAdoption()
  const { signal } = limit
  const { socket, head, subprotocol, headers, isSecure } = await dialTransport({
    url: options.url,
    headers: options.headers,
    subprotocols: [LINK_SUBPROTOCOL],
    signal,
    ...(options.proxy && { proxy: options.proxy }),
    ...(options.ca !== undefined && { ca: options.ca }),
  })
  if (subprotocol !== LINK_SUBPROTOCOL) {
    socket.destroy()
    throw new DialError({ kind: 'protocol', message: `it does not offer ${LINK_SUBPROTOCOL}` })
  }
  const challenge = headers[CHALLENGE_HEADER]
  return await greet(
    options,
    PumpSocket.from(socket, head),
    isSecure,
    typeof challenge === 'string' ? challenge : '',
    signal,
  )
}

async function greet(
  options: DialLinkOptions,
  socket: PumpSocket,
  isSecure: boolean,
  challenge: string,
  signal: AbortSignal,
): Promise<Link> {
  const greeted = Promise.withResolvers<'welcome' | CloseReason>()
  const connection = new LinkConnection({
    socket,
    role: 'dialler',
    masking: isSecure ? 'zero' : (options.maskPlain ?? 'zero'),
    limits: { ...LIMITS, ...options.limits },
    onStream: options.onStream,
    log: options.log,
    greeting: { onHeard: () => greeted.resolve('welcome'), onLost: greeted.resolve },
  })
  const onAbort = (): void => connection.close({ code: 'done', message: 'the dial was given up' })
  signal.addEventListener('abort', onAbort, { once: true })
  connection.start(options.hello(challenge))
  const outcome = await greeted.promise
  signal.removeEventListener('abort', onAbort)
  if (outcome === 'welcome') return connection
  throw new DialError(signal.aborted ? { kind: 'network', code: 'ETIMEDOUT' } : failureOf(outcome))
}

function failureOf(reason: CloseReason): DialError['failure'] {
  switch (reason.code) {
    case 'transport':
    case 'dead':
      return { kind: 'network', code: 'ECONNRESET' }
    case 'protocol_fault':
      return { kind: 'protocol', message: reason.message }
    default:
      return { kind: 'refused', reason }
  }
}
