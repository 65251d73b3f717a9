import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { CliError } from '../errors.ts'
import { codeOf } from '../private-file.ts'

/** Loopback only: a forwarded port is for this machine, as ssh -L has it. */
const HOST = '127.0.0.1'
/** Each is a connection through server and agent; a client that leaks them is stopped here. */
const MOST_CONNECTIONS = 1024

export interface Listener {
  readonly host: string
  readonly port: number
  /** Takes no more connections. Those there are end with what carries them. */
  close(): void
}

/**
 * Listens on `wanted`; throws a `CliError` when that port cannot be had. When none is wanted: on `preferred`, or on any
 * free port when that is taken. Sockets arrive paused, with nothing read.
 */
export async function listen(
  ports: { wanted: number | undefined; preferred: number },
  onSocket: (socket: Socket) => void,
): Promise<Listener> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, onSocket)
  server.maxConnections = MOST_CONNECTIONS
  if (ports.wanted !== undefined) await bind(server, ports.wanted)
  else await bind(server, ports.preferred).catch(() => bind(server, 0))
  server.on('error', () => {}) // a connection that could not be accepted; its client sees that itself
  const { port } = server.address() as AddressInfo
  return { host: HOST, port, close: () => void server.close() }
}

async function bind(server: Server, port: number): Promise<void> {
  server.listen(port, HOST)
  try {
    await once(server, 'listening')
  } catch (cause) {
    const why = codeOf(cause) === 'EADDRINUSE' ? 'is in use' : `cannot be used (${codeOf(cause)})`
    const message = `port ${port} of this machine ${why}: choose another with --local, or leave it out for a free one`
    throw new CliError('failed', 'port_taken', message, { cause })
  }
}
