import type { Limits } from './limits.ts'
import { GrowthBudget, ReceiveWindow } from './receive-window.ts'

/** What a whole link may hold for its readers, and the windows that are made within it. */
export class ReceiveBudget {
  readonly #limits: Limits
  readonly #growth: GrowthBudget
  /** Windows that have grown, to be looked at when idle. Made when the first one grows: on most links none does. */
  #grown: Set<ReceiveWindow> | undefined
  /** Bytes of all streams received and not yet consumed. */
  #heldBytes = 0

  constructor(limits: Limits) {
    this.#limits = limits
    this.#growth = new GrowthBudget(limits.linkBytes)
  }

  /** The window of a stream that we open: its open frame grants all of it. */
  forOwnStream(): ReceiveWindow {
    const bytes = this.#baseBytes()
    return new ReceiveWindow(this.#limits, this.#growth, bytes, bytes)
  }

  /** The window of a stream that the peer opens: our greeting granted the first bytes of it. */
  forPeerStream(): ReceiveWindow {
    return new ReceiveWindow(this.#limits, this.#growth, this.#baseBytes(), this.#limits.initialWindowBytes)
  }

  hold(bytes: number): void {
    this.#heldBytes += bytes
  }

  /** Bytes of `window` count no longer; its stream is over. */
  letGo(window: ReceiveWindow, bytes: number): void {
    this.#heldBytes -= bytes
    window.letGo(bytes)
  }

  /** True when more is held than the link may hold. */
  get isExceeded(): boolean {
    return this.#heldBytes > this.#limits.linkBytes
  }

  get hasGrown(): boolean {
    return this.#grownCount > 0
  }

  /** Bytes of `window` were consumed, after which it may have grown. */
  consumed(window: ReceiveWindow, bytes: number, now: number, roundTripMs: number): void {
    this.#heldBytes -= bytes
    window.consumed(bytes, now, roundTripMs, this.#grownCount)
    if (!window.isGrown) return
    this.#grown ??= new Set()
    this.#grown.add(window)
  }

  /** Shrinks the windows that have been idle. */
  rest(now: number): void {
    for (const window of this.#grown ?? []) if (window.rest(now)) this.#grown?.delete(window)
  }

  /** The stream of this window is over. */
  end(window: ReceiveWindow): void {
    window.release()
    this.#grown?.delete(window)
  }

  get #grownCount(): number {
    return this.#grown?.size ?? 0
  }

  /** What a new stream may send before anything is consumed: little, once much is held. */
  #baseBytes(): number {
    const { linkBytes, windowBytes, initialWindowBytes } = this.#limits
    return this.#heldBytes < linkBytes / 2 ? windowBytes : initialWindowBytes
  }
}
