/**
 * Which ComfyUI the simulator is. `ancient`: before mid-2025, the server chooses prompt ids and an interrupt hits
 * whatever runs. `classic`: 0.3.64. `modern`: with `/api/jobs`, strict prompt ids and the reconnect race mended.
 */
export type ComfyuiGeneration = 'ancient' | 'classic' | 'modern'

/** A switch for each known misbehaviour. Numbers count down: so many times, then never again. */
export interface ComfyuiFaults {
  /** The worker thread dies while HTTP goes on: holding the next prompt, or after giving it back to nobody. */
  deadWorker: 'no' | 'holding' | 'idle'
  /** Nodes of this class never end and look at no interrupt. */
  freezeAt: string
  /** An interrupt is noticed only after so many milliseconds. */
  slowInterruptMs: number
  /** An interrupt that names a prompt kills whatever runs, as before September 2025. */
  interruptHitsNeighbour: boolean
  /** The history entry is written so long after `execution_success`. */
  historyDelayMs: number
  /** Finished prompts leave no history entry. */
  losesHistory: boolean
  /** The status of a failed run reads `success`, with the error among its messages. */
  liesAboutSuccess: boolean
  /** History lists outputs of nodes that are none of the prompt's. */
  foreignOutputs: boolean
  /** Nodes that end out of GPU memory. */
  outOfMemory: number
  /** Nodes that end with a GPU fault that no later prompt survives. */
  gpuFault: boolean
  /** `POST /prompt` takes the prompt and drops the connection. */
  losesReplies: number
  /** `POST /prompt` answers 500 with a page of text. */
  failsSubmits: number
  /** All sockets are cut when a node of this class begins. */
  cutSocketsAt: string
  /** Sockets are so far behind what HTTP answers. */
  socketDelayMs: number
  /** Messages of progress that each tick of a node makes, each with a state of so many nodes. */
  progressFlood: { messages: number; nodes: number }
  /** `/view` answers whose connection is cut after `viewCutBytes`. */
  viewCuts: number
  viewCutBytes: number
  /** `/view` waits so long between two pieces of 64 KiB. */
  viewPauseMs: number
  /** Files are gone before `/view` is asked for them. */
  losesFiles: number
  /** `/system_stats` never answers. */
  mute: boolean
}

export const NO_FAULTS: Readonly<ComfyuiFaults> = Object.freeze({
  deadWorker: 'no',
  freezeAt: '',
  slowInterruptMs: 0,
  interruptHitsNeighbour: false,
  historyDelayMs: 0,
  losesHistory: false,
  liesAboutSuccess: false,
  foreignOutputs: false,
  outOfMemory: 0,
  gpuFault: false,
  losesReplies: 0,
  failsSubmits: 0,
  cutSocketsAt: '',
  socketDelayMs: 0,
  progressFlood: { messages: 1, nodes: 0 },
  viewCuts: 0,
  viewCutBytes: 0,
  viewPauseMs: 0,
  losesFiles: 0,
  mute: false,
})
