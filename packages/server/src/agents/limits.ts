/** Every bound of the agents' side of this server, in one place. */
export const AGENTS_LIMITS = {
  /** Agents that may connect in a second, after a burst: 2,000 that come back at once are all in within 30 s. */
  acceptsPerSecond: 200,
  acceptBurst: 400,
  /** The latest a refused agent is asked to come back. */
  longestRetryAfterMs: 60_000,
  /** Links of agents at once. */
  links: 50_000,
  /** Links that only measure (`cyberun doctor`), and how long one may last. */
  probes: 64,
  probeMs: 60_000,
  /** How long an agent whose link was lost stays listed and is waited for. */
  resumeWindowMs: 10_000,
  /** Callers that wait for one agent between two links, and for all. */
  waitersPerAgent: 1_024,
  waiters: 8_192,
  /** Lines on a control stream in a window of time: an agent writes one in 10 s, and a few when its machine wakes up. */
  controlLines: 60,
  controlLinesWindowMs: 10_000,
  /** Answers on a control stream that the agent does not read. */
  controlQueuedBytes: 16 * 1024,
  /** Echo streams of one link. */
  echoStreams: 4,
  /** How often the keys of live links are looked up again, should a message about their end have been lost. */
  credentialSweepMs: 30_000,
  /** How long the streams of a stopping server may go on, and over how long its agents' return is spread. */
  stopDrainMs: 60_000,
  stopRetrySpreadMs: 2_000,
} as const satisfies Record<string, number>

export type AgentsLimits = { readonly [name in keyof typeof AGENTS_LIMITS]: number }
