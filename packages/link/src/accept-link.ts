import type { Socket } from 'node:net'
import { type CloseReason, type Hello, LIMITS, type Limits, type StreamHandler } from '@cyberun/protocol'
import { tryAdoption } from './adopt.ts'
import { type Greeting, LinkConnection } from './link-connection.ts'
import type { Log } from './log.ts'
import { PumpSocket } from './pump-socket.ts'
import type { Link } from './types.ts'
import { LINK_SUBPROTOCOL, readUpgrade, refuseUpgrade, type UpgradeHead, writeSwitch } from './upgrade.ts'

export interface AcceptLinkOptions {
  /** The upgrade request, its socket and the bytes that came after it, as `node:http` hands them over. */
  request: UpgradeHead
  /** Or one that was taken over and rests. */
  socket: Socket | PumpSocket
  head?: Buffer
  /** For the dialler to sign: base64url. */
  challenge: string
  /** Decides about a hello: a greeting welcomes, a reason is sent as go-away. */
  welcome(hello: Hello): Promise<Greeting | CloseReason>
  onStream: StreamHandler
  limits?: Partial<Limits>
  log?: Log
}

/** The link did not come about; the other end has been told why. */
export class AcceptError extends Error {
  override readonly name = 'AcceptError'
  readonly reason: CloseReason

  constructor(reason: CloseReason) {
    super(reason.message)
    this.reason = reason
  }
}

/**
 * Answers an upgrade with 101 and greets. Resolves once the welcome is sent; rejects with `AcceptError` when the
 * request was no link, the hello was refused, or the other end went away. Takes the socket over in every case.
 */
export async function acceptLink(options: AcceptLinkOptions): Promise<Link> {
  if (!(options.socket instanceof PumpSocket)) {
    options.socket.on('error', () => {
      // Its end is found out by whoever writes to it next.
    })
    await tryAdoption()
  }
  const socket = PumpSocket.from(options.socket, options.head)
  const upgrade = readUpgrade(options.request)
  if (upgrade.kind === 'invalid') {
    refuseUpgrade(socket, upgrade.status, { error_message: upgrade.message }, { 'Sec-WebSocket-Version': '13' })
    throw new AcceptError({ code: 'refused', message: upgrade.message })
  }
  if (!upgrade.subprotocols.includes(LINK_SUBPROTOCOL)) {
    const message = `Offer the subprotocol ${LINK_SUBPROTOCOL}: no other version of the link is spoken here.`
    refuseUpgrade(socket, 400, { error_message: message })
    throw new AcceptError({ code: 'unsupported_version', message })
  }
  writeSwitch(socket, upgrade.key, LINK_SUBPROTOCOL, { 'Cyberun-Challenge': options.challenge })
  return greet(options, socket)
}

async function greet(options: AcceptLinkOptions, socket: PumpSocket): Promise<Link> {
  const answer = Promise.withResolvers<Greeting | CloseReason>()
  const connection = new LinkConnection({
    socket,
    role: 'acceptor',
    masking: 'none',
    limits: options.limits ? { ...LIMITS, ...options.limits } : LIMITS,
    onStream: options.onStream,
    log: options.log,
    greeting: {
      onHeard: (hello) => void options.welcome(hello).then(answer.resolve, answer.reject),
      onLost: (reason) => answer.reject(new AcceptError(reason)),
    },
  })
  connection.start()
  const said = await answer.promise
  if ('code' in said) {
    connection.close(said)
    throw new AcceptError(said)
  }
  connection.accept(said)
  return connection
}
