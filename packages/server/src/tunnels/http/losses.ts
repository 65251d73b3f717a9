import type { ResetCode } from '@cyberun/protocol'
import { Refusal, type RefusalCode } from './refusal.ts'

/** What a visitor is told when the stream to the service ended before there was an answer. */
export function lossRefusal(code: ResetCode): Refusal {
  const [refusal, message] = LOSSES[code]
  return new Refusal(refusal, message, refusal === 'unavailable' ? ['Retry-After', '1'] : [])
}

/** There is no link to the agent, and none came while we waited. */
export function agentOffline(): Refusal {
  const message = 'the machine behind this tunnel is not connected right now; it reconnects by itself'
  return new Refusal('agent_offline', message, ['Retry-After', '5'])
}

const BROKEN_OFF = 'the service broke off the connection before it answered'
const TOO_MUCH = 'too much is under way through this tunnel right now; try again in a moment'

const LOSSES: Readonly<Record<ResetCode, readonly [RefusalCode, string]>> = {
  cancelled: ['bad_response', BROKEN_OFF],
  link_lost: ['link_lost', 'the connection to the machine behind this tunnel was lost; try again'],
  refused: ['unavailable', TOO_MUCH],
  unsupported: ['bad_response', 'the agent behind this tunnel does not carry TCP: update it'],
  port_not_allowed: [
    'port_not_allowed',
    "the machine's owner does not allow this port: see tunnel_ports in the agent's file",
  ],
  target_refused: [
    'target_refused',
    'nothing listens on the port behind this tunnel: start the service, then try again',
  ],
  target_reset: ['bad_response', BROKEN_OFF],
  target_timeout: ['target_timeout', 'the service behind this tunnel does not take connections'],
  flow_control: ['bad_response', BROKEN_OFF],
  internal: ['bad_response', BROKEN_OFF],
}
