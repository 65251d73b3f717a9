const KIB = 1024
const MIB = 1024 * KIB

/**
 * Every bound of one end of a link, in one place (protocol.md, "Limits"). An end tells none of them but
 * `initialWindowBytes`: the peer is held to all, and one that stays below the defaults never meets one.
 */
export const LIMITS = {
  /** Largest payload of a data frame; also the most bytes one frame may hold up the others. */
  frameBytes: MIB,
  /** Largest payload of an open, reset, credit, ping, pong, ack or go-away frame. */
  controlFrameBytes: 4 * KIB,
  /** Largest payload of hello and welcome. */
  handshakeBytes: 64 * KIB,
  /** Frames in the bytes of one read of the socket. */
  framesPerReceive: 131_072,
  /** Streams open at once, of both ends together. */
  streams: 4096,
  /** Streams the peer opens in a second, after a burst of as many: services that close after each answer need many. */
  opensPerSecond: 10_000,
  /**
   * Streams the peer opens and resets before we answered, in a second ("rapid reset"). Visitors who hang up cause them,
   * and passing the bound ends the link, so it is far beyond what an edge lets one tunnel's visitors do.
   */
  unansweredResetsPerSecond: 5_000,
  /** Ping frames, and pings of the WebSocket, in a second. */
  pingsPerSecond: 50,
  /** Control frames waiting to be sent: a peer that makes us answer and does not read is cut off. */
  queuedControlBytes: MIB,
  /** What the peer may send on a stream that nobody has accepted yet. */
  initialWindowBytes: 16 * KIB,
  /** The window an accepted stream starts with, and shrinks back to when idle. */
  windowBytes: 256 * KIB,
  /** The window a stream grows to where bandwidth and delay ask for it. */
  maxWindowBytes: 16 * MIB,
  /** All growth of all windows of a link together; also the bytes of a link received and not yet consumed. */
  linkBytes: 64 * MIB,
} as const satisfies Record<string, number>

export type Limits = { readonly [name in keyof typeof LIMITS]: number }
