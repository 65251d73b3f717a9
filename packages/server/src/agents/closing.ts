import type { CloseReason } from '@cyberun/protocol'

/** What an agent is told at the end of a link: what happened, and what its owner can do. */
export const CLOSING = {
  revoked: {
    code: 'revoked',
    message: 'the key of this agent was revoked or has expired; make a new one with "cyberun keys create --kind agent"',
  },
  teamDeleted: { code: 'revoked', message: 'the team of this agent was deleted' },
  evicted: { code: 'evicted', message: 'this machine has connected again with the same agent_id' },
  notProven: {
    code: 'refused',
    message: 'the machine signature does not match; remove machine.key from state_dir and start again',
  },
  tooManyProbes: { code: 'going_away', message: 'too many links that only measure are open; try again in a minute' },
  probeOver: { code: 'done', message: 'a link that only measures lasts a minute' },
  trouble: { code: 'going_away', message: 'the server cannot check agents right now', retryAfterMs: 5_000 },
  stopping: { code: 'going_away', message: 'the server is stopping' },
} as const satisfies Record<string, CloseReason>

export function agentIdTaken(agentId: string, retryAfterMs: number): CloseReason {
  return {
    code: 'agent_id_taken',
    message: `another machine of your team is connected as ${agentId}: give this one its own agent_id in cyberun-agent.yaml`,
    retryAfterMs,
  }
}
