/** Every bound of the terminals of one server, in one place. */
export const TERMINALS_LIMITS = {
  /** How long a socket may take to say who it is. */
  openingMs: 5_000,
  /** A socket that says nothing for this long is dead: viewers ping each 5 s. */
  silenceMs: 30_000,
  /** How often that is looked at. */
  sweepMs: 5_000,
  /** The first message, in bytes. */
  openingBytes: 4 * 1024,
  /** Sockets at once, over all agents. */
  sockets: 1_000,
  /** Sockets of one address that have not said yet who they are. */
  strangersPerAddress: 16,
  /** Wrong admin tokens of one address at once; they come back within a minute. */
  wrongTokensPerAddress: 10,
  /** How long opening a stream to the agent may take. */
  openMs: 10_000,
} as const satisfies Record<string, number>

export type TerminalsLimits = { readonly [name in keyof typeof TERMINALS_LIMITS]: number }
