import { SessionFault } from './faults.ts'

/** Counts the stream frames of both directions; frames carry no numbers (protocol.md, "Signs of life"). */
export class FrameCounts {
  sent = 0
  received = 0
  /** How many of ours the peer says it received. */
  acknowledged = 0
  #told = 0

  /** The count for an ack frame, or undefined when the peer knows it already. */
  takeNews(): number | undefined {
    if (this.#told === this.received) return undefined
    this.#told = this.received
    return this.received
  }

  /** The peer received `frames` of ours. */
  acknowledge(frames: number): void {
    if (frames > this.sent) throw new SessionFault('frame_malformed', 'ack of frames never sent')
    this.acknowledged = frames
  }
}
