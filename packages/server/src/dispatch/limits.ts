/** Every bound and time of dispatch, in one place. Times in milliseconds. */
export const DISPATCH_LIMITS = {
  /** How long an agent has to say that it takes an assignment. */
  ackMs: 5_000,
  /** Between two claims for one team. Tasks that arrive meanwhile share the next one. */
  claimGapMs: 5,
  /** Tasks claimed at once for one team. */
  claimsAtOnce: 128,
  /** How often leases are renewed: the shortest resume window is five times as long. */
  renewMs: 2_000,
  /** Attempts in one renewing statement. */
  renewAtOnce: 1_000,
  /** How often lost doorbells and passed deadlines are looked for. */
  sweepMs: 1_000,
  /** Attempts that one sweep ends. */
  expireAtOnce: 500,
  /** A task that is still pending after this long is said to wait, with the reason. */
  pendingMs: 1_000,
  /** Tasks of a team that one sweep says it of. */
  waitingAtOnce: 500,
  /** An agent that has not read its assignment in time, or breaks the protocol, is given none for this long. */
  stallMs: 30_000,
  /** An agent that declined because it has no free slot, or no working tool, is asked again after this at the latest. */
  declinePauseMs: 10_000,
  /** How long attempts that a hello named may take to be attached; until then they count as slots. */
  expectMs: 15_000,
  /** How long an agent may wind down a cancelled run (its ladder ends after 45 s) before it is told that it is late. */
  cancelMs: 60_000,
  /** Reports of one attempt that wait for the store; beyond, its agent gets no credit. In characters. */
  unstoredCharacters: 512 * 1024,
  /** What one attempt may keep in the log of its task; the log says when it ends there. */
  logLines: 20_000,
  logCharacters: 8 * 1024 * 1024,
  /** Between two progress events, and two previews, that readers are told of. An agent keeps to 4 and 2 a second. */
  progressMs: 200,
  previewMs: 400,
  /** Between two writes of an attempt's progress. */
  saveProgressMs: 1_000,
  /** Task streams of one agent at once, those being attached among them. */
  streamsPerAgent: 1_024,
  /** Acknowledgements and leases that an agent has not read: those that follow wait. */
  queuedLineBytes: 64 * 1024,
  /** After a write that the database could not take, until the next try; doubling up to the longest. */
  retryMs: 100,
  longestRetryMs: 5_000,
  /** Versions of workflows kept in memory, counted and by the characters of their JSON. */
  snapshots: 500,
  snapshotCharacters: 64 * 1024 * 1024,
} as const satisfies Record<string, number>

export type DispatchLimits = { readonly [name in keyof typeof DISPATCH_LIMITS]: number }
