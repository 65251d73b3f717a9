/** The bounds of what the agent keeps and waits for on behalf of tasks, in bytes, counts and milliseconds. */
export const RUN_LIMITS = {
  /** Events of one attempt in memory that wait for their turn; more goes to disk. */
  queueBytes: 256 * 1024,
  /** Events of one attempt on disk: the oldest log lines go when there would be more. */
  spoolBytes: 4 * 1024 * 1024,
  /** Events sent and not yet acknowledged: what a new link repeats. */
  unacknowledgedEvents: 32,
  unacknowledgedBytes: 512 * 1024,

  /** A log line is cut after this many characters. */
  lineCharacters: 4_096,
  /** A batch of log lines leaves after this long, or when it holds this much. */
  batchMs: 200,
  batchLines: 500,
  /** Escaped as JSON they may be six times this, which still fits into a line of the wire. */
  batchBytes: 32 * 1024,
  /** What a task may log before only its last lines are kept. Half of what a server takes, so that those still fit. */
  taskLogLines: 10_000,
  taskLogBytes: 4 * 1024 * 1024,
  /** The last lines of a log that reached its cap: where a program says why it failed. */
  lastLines: 200,
  lastBytes: 256 * 1024,
  /** Notes of one attempt; a tool that has more to say logs it. */
  notes: 500,

  progressMs: 250,
  previewMs: 500,
  previewBytes: 192 * 1024,
  /** An outcome has to fit into one line of the wire. */
  outputBytes: 192 * 1024,

  /** Within the server's 5 s for an acknowledgement. */
  checkMs: 4_000,
  /** The cancel ladder: asked again, killed, given up; from the first asking. */
  againMs: 10_000,
  killMs: 30_000,
  giveUpMs: 45_000,
  /** How long runs may go on when the agent is told to stop, and how long they then have to end. */
  stopGraceMs: 5_000,
  stopKillMs: 3_000,
  /** How long a stopping agent waits for the server to acknowledge what became of them. */
  stopAckMs: 2_000,

  /** After a task stream ended on a link that lives on. */
  attachAgainMs: 1_000,
  /** An outcome that is not acknowledged after this long is written to disk. */
  saveOutcomeMs: 1_000,
  /** A run needs this much free disk to be taken. */
  freeDiskBytes: 256 * 1024 * 1024,
  /** How old an answer about the disk may be. */
  freeDiskMs: 5_000,
  transfers: 3,
  /** The pause before a transfer that failed on a living link is tried again, and how often it is tried. */
  retryMs: 1_000,
  transferTries: 30,

  healthMs: 5_000,
  detectAgainMs: 300_000,
} as const

/** The limits as a type whose numbers a test may choose. */
export type RunLimits = { readonly [name in keyof typeof RUN_LIMITS]: number }
