import { z } from 'zod'

const path = z.string().min(1)

const SETTINGS = z
  .strictObject({
    url: z.url({ protocol: /^https?$/, error: 'expected a URL such as http://127.0.0.1:8188' }).optional(),
    start: z
      .strictObject({
        command: path,
        args: z.array(z.string()).default([]),
        cwd: path.optional(),
        port: z.int().min(1).max(65_535).default(8188),
      })
      .optional(),
    folder: path.optional(),
    image_metadata: z.enum(['strip', 'keep']).default('strip'),
    keep_files: z.boolean().default(false),
    stall_seconds: z.int().min(10).max(86_400).default(20),
  })
  .refine(({ url, start }) => (url === undefined) !== (start === undefined), {
    error: 'set url (of a ComfyUI that runs) or start (to have the agent start one), and not both',
  })

/**
 * `comfyui:` in cyberun-agent.yaml: a ComfyUI that runs already, by its URL alone if nothing else is to be said, or how
 * to start one. docs/comfyui.md explains each key.
 */
export const COMFYUI_SETTINGS = z.preprocess((raw) => (typeof raw === 'string' ? { url: raw } : raw), SETTINGS)

export type ComfyuiSettings = z.output<typeof COMFYUI_SETTINGS>

/** Durations in milliseconds; tests shorten them. */
export const COMFYUI_TIMES = {
  /** One call over HTTP, but for files. */
  callMs: 10_000,
  /** A whole upload of one file. */
  uploadMs: 600_000,
  /** A file transfer without a byte for this long is over. */
  fileIdleMs: 60_000,
  /** Between two looks at a prompt's place; the socket only makes them earlier. */
  pollMs: 1_000,
  /** A prompt that is nowhere to be found is looked for once more after this long. */
  lostMs: 2_000,
  /** How long ComfyUI may not answer at all before its run is lost. */
  unreachableMs: 20_000,
  /** Between two attempts to interrupt the same prompt, as one sent between prompts is forgotten. */
  interruptAgainMs: 2_000,
  /** After the last step of the cancel ladder, before ComfyUI itself has to go. */
  killGraceMs: 3_000,
  /** Pings of the socket; one that is not answered before the next ends it. */
  pingMs: 5_000,
  /** Before the socket is dialled again. */
  redialMs: 1_000,
  /** How long a run waits for the socket before it goes without. */
  socketMs: 3_000,
  /** Prompts wait and none runs: the worker is dead. */
  idleWorkerMs: 5_000,
  /** Nothing is known of the process's activity: how long a run of ours may be silent. */
  blindStallMs: 180_000,
  /** The smallest prompt has to be done in this. */
  canaryMs: 10_000,
  /** Between two canaries of an unhealthy ComfyUI. */
  canaryAgainMs: 15_000,
} as const

/** The times as a type whose numbers a test may choose. */
export type ComfyuiTimes = { readonly [name in keyof typeof COMFYUI_TIMES]: number }
