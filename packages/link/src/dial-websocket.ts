import { tryAdoption } from './adopt.ts'
import { ByteSocket } from './byte-socket.ts'
import { PumpSocket } from './pump-socket.ts'
import { timeLimit } from './time-limit.ts'
import { dialTransport } from './transport.ts'
import { TCP_SUBPROTOCOL } from './upgrade.ts'

/** How long connecting, TLS and the upgrade may take together. */
const HANDSHAKE_MS = 15_000

export interface DialWebsocketOptions {
  url: URL
  headers?: Readonly<Record<string, string>>
  /** An HTTP proxy that understands CONNECT. */
  proxy?: URL
  /** Certificates in PEM that are trusted besides those Node brings. */
  ca?: string
  /** Mask over plain ws: `zero` (the default) costs nothing, `random` is for unknown intermediaries. wss: always zero. */
  maskPlain?: 'zero' | 'random'
  signal?: AbortSignal
}

/** Dials a TCP relay, offering `cyberun.tcp.v1`. Rejects with `DialError`. */
export async function dialWebSocket(options: DialWebsocketOptions): Promise<ByteSocket> {
  using limit = timeLimit(HANDSHAKE_MS, options.signal)
  await tryAdoption()
  const { socket, head, subprotocol, isSecure } = await dialTransport({
    url: options.url,
    headers: options.headers ?? {},
    subprotocols: [TCP_SUBPROTOCOL],
    signal: limit.signal,
    ...(options.proxy && { proxy: options.proxy }),
    ...(options.ca !== undefined && { ca: options.ca }),
  })
  return new ByteSocket(PumpSocket.from(socket, head), isSecure ? 'zero' : (options.maskPlain ?? 'zero'), subprotocol)
}
