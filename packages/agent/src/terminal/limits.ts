/** Every bound of an agent's terminals, in one place. */
export const SHELL_LIMITS = {
  /** Shells at once, over all viewers. */
  shells: 16,
  /** Viewers of one shell. */
  viewers: 32,
  /** Output kept of each shell, for viewers who come back. */
  ringBytes: 1024 * 1024,
  /** Output in one frame. */
  outputBytes: 32 * 1024,
  /** Viewers whose input is remembered by its length, so that nothing they send again is typed twice. */
  rememberedViewers: 64,
  /** A shell that nobody looks at ends after this long. */
  idleMs: 15 * 60_000,
  /** An ended shell's last output and exit code wait this long for viewers who are just away. */
  endedMs: 60_000,
  /** How often both are looked at. */
  sweepMs: 5_000,
  /** How long a shell has another size, so that its program draws anew. */
  otherSizeMs: 50,
  /** What has been told to hang up has this long before it is killed. */
  graceMs: 2_000,
  /** How long an agent that stops waits for its shells, which it then leaves. */
  stopMs: 5_000,
} as const satisfies Record<string, number>
