/**
 * Everything an end may do on the wire only when the other end said that it knows it. A change of the wire adds a
 * line here: the release that brought it, and what is done without it.
 */
export const CAPABILITIES = {
  /** Since 0.1.0. Each end tells how many stream frames it has received. Without it no ack frame is sent. */
  ack: 'ack',
  /** Since 0.2.0. Streams of kind `task`, `artifact` and `input`. Without it an agent is given no task. */
  tasks: 'tasks',
  /** Since 0.3.0. Streams of kind `terminal`. Without it an agent offers no terminal. */
  terminal: 'terminal',
} as const

export type Capability = keyof typeof CAPABILITIES

/** What this version of the software can do, for its hello or welcome. */
export const OWN_CAPABILITIES: readonly Capability[] = Object.values(CAPABILITIES)
