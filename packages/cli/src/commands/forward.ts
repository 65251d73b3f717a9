import type { Socket } from 'node:net'
import { relay, relaySocketToWebSocket } from '@cyberun/link'
import { connect } from '../connect.ts'
import { type Context, printNote, printResult } from '../context.ts'
import { failureOf } from '../failure.ts'
import { type Listener, listen } from '../forward/listener.ts'
import { stdioEnd } from '../forward/stdio.ts'
import { openTunnelSession, type TunnelSession } from '../forward/tunnel-session.ts'
import { aborted, onInterrupt } from '../interrupt.ts'
import { printable } from '../text.ts'

export interface ForwardOptions {
  local?: number
  stdio?: true
}

/** `cyberun forward`: until it is stopped, or with `--stdio` until the one connection is over. */
export async function forward(
  context: Context,
  agentId: string,
  targetPort: number,
  options: ForwardOptions,
): Promise<undefined> {
  const signal = onInterrupt()
  const { client } = await connect(context, 'key')
  const session = await openTunnelSession(context, client, agentId, targetPort)
  try {
    if (options.stdio) await carryStdio(context, session, signal)
    else await carryConnections(context, session, { agentId, targetPort, local: options.local }, signal)
  } finally {
    await session.close()
  }
}

async function carryStdio(context: Context, session: TunnelSession, signal: AbortSignal): Promise<void> {
  const tunnel = await session.dial(signal).catch((error: unknown) => {
    if (!signal.aborted) throw error
  })
  if (tunnel === undefined) return // told to stop
  const end = stdioEnd(context.stdin, context.stdout)
  await Promise.race([relay(end, tunnel), aborted(signal)])
  tunnel.reset('cancelled')
  end.reset('cancelled')
}

async function carryConnections(
  context: Context,
  session: TunnelSession,
  about: { agentId: string; targetPort: number; local: number | undefined },
  signal: AbortSignal,
): Promise<void> {
  const sockets = new Set<Socket>()
  const ports = { wanted: about.local, preferred: about.targetPort }
  const listener = await listen(ports, (socket) => {
    sockets.add(socket)
    void carry(context, session, socket, signal).finally(() => sockets.delete(socket))
  })
  printResult(
    context,
    {
      agent_id: about.agentId,
      target_port: about.targetPort,
      local_host: listener.host,
      local_port: listener.port,
      session_id: session.sessionId,
    },
    () => {
      const from = `${listener.host}:${listener.port}`
      return `${from} is port ${about.targetPort} of ${printable(about.agentId)} until Ctrl-C. Try:\n  ${tryIt(about.targetPort, listener)}\n`
    },
  )
  await aborted(signal)
  listener.close()
  for (const socket of sockets) socket.destroy()
}

/** One connection from its first byte to its last. Never rejects: its failure is its own, and is told in one line. */
async function carry(context: Context, session: TunnelSession, socket: Socket, signal: AbortSignal): Promise<void> {
  socket.on('error', () => {}) // until the relay takes the socket
  try {
    await relaySocketToWebSocket(socket, await session.dial(signal))
  } catch (error) {
    socket.resetAndDestroy()
    if (!signal.aborted) printNote(context, `a connection failed: ${failureOf(error).message}`)
  }
}

/** A command that uses the local port, for what usually listens on the target port. */
function tryIt(targetPort: number, { host, port }: Listener): string {
  switch (targetPort) {
    case 22:
      return `ssh -p ${port} ${host}`
    case 5432:
      return `psql -h ${host} -p ${port} -U postgres`
    case 3306:
      return `mysql -h ${host} -P ${port}`
    case 6379:
      return `redis-cli -h ${host} -p ${port}`
    default:
      return `curl http://${host}:${port}/`
  }
}
