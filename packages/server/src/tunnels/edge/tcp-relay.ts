import { acceptWebSocket, type LinkStream, type PumpSocket, relayWebSocket, type UpgradeHead } from '@cyberun/link'
import { StreamResetError } from '@cyberun/protocol'
import { AgentUnreachableError, type Routing } from '../../routing/routing.ts'
import { agentOffline, lossRefusal } from '../http/losses.ts'
import type { Refusal } from '../http/refusal.ts'
import type { OpenTunnel } from '../open-tunnel.ts'
import { type RelayContext, relayVisit } from './socket-relay.ts'

/**
 * Joins a visitor's resting socket, whose 101 is still to be sent, with a stream to the service. Nothing of the request is
 * kept while bytes are relayed, so this does not wait for their end.
 */
export function relayTcp(request: UpgradeHead, socket: PumpSocket, stream: LinkStream, context: RelayContext): void {
  const visitor = acceptWebSocket({ request, socket })
  if (visitor) relayVisit('tcp', context, (options) => relayWebSocket(stream, visitor, options))
  else stream.reset('cancelled')
}

/**
 * Has the agent reach the service, so that a refusal is known before the visitor is told anything. What the service
 * says first is kept for whoever listens.
 */
export async function dialService(
  tunnel: OpenTunnel,
  routing: Routing,
  signal: AbortSignal,
): Promise<LinkStream | Refusal> {
  const { teamId, agentId, targetPort } = tunnel.facts
  let stream: LinkStream | undefined
  try {
    const path = routing.pathTo(teamId, agentId)
    if (!path) return agentOffline()
    stream = await path.open({ target: { kind: 'tcp', port: targetPort }, priority: 'interactive' }, undefined, signal)
    await stream.accepted
    return stream
  } catch (error) {
    stream?.reset('cancelled')
    if (error instanceof AgentUnreachableError) return agentOffline()
    return lossRefusal(error instanceof StreamResetError ? error.code : 'link_lost')
  }
}
