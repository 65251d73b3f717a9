import type { Log } from '@cyberun/link/log'
import type { ArtifactRefusal, AttemptOutcome, DeclineReason, JsonObject, ToolType } from '@cyberun/protocol'

/**
 * What does the work on an agent. A tool is one small file and one line in registry.ts; what every tool needs (slots,
 * folders, event numbers, the cancel ladder, re-attachment) is the runner's, in ../tasks.
 */

export type { ToolType } from '@cyberun/protocol'

/** What the machine offers with a tool, now. */
export interface ToolOffer {
  /** Of the program behind the tool, for people: at most 64 characters. */
  readonly version: string
  /** Besides the tool's own name, which is always one. */
  readonly labels: readonly string[]
  /** File names of the models that are here; undefined for a tool that has no such notion: it is taken to have all. */
  readonly models?: readonly string[]
  /** ComfyUI's node classes. */
  readonly nodeClasses?: readonly string[]
}

export type ToolHealth =
  | { readonly state: 'ready' }
  /** One sentence for the machine's owner. */
  | { readonly state: 'unhealthy'; readonly reason: string }
  | { readonly state: 'starting' }

/** A file that the caller uploaded, as the assignment names it. */
export interface InputFile {
  /** The workflow's parameter whose value it is. */
  readonly parameter: string
  readonly fileKey: string
  /** Whatever the caller called it: never a path. */
  readonly fileName: string
  readonly contentType: string
  readonly size: number
  readonly sha256: string
}

/** One attempt at a task, as the server gave it. `taskId` and `fence` together name it. */
export interface Assignment {
  readonly taskId: string
  readonly fence: number
  readonly toolType: ToolType
  readonly workflowSlug: string
  readonly workflowVersion: number
  /** With the parameters put in already; a file is the text `cyberun-file:<file key>` (`FILE_PLACEHOLDER`). */
  readonly workflow: JsonObject
  /** Checked and completed with defaults; files as in `workflow`. */
  readonly parameters: JsonObject
  readonly files: readonly InputFile[]
  readonly requiredModels: readonly string[]
  /** Where the run's own service is to listen, for a run that is exposed; 0 while that is not decided yet. */
  readonly exposePort: number | undefined
}

/** What stands in `workflow` and `parameters` before the key of a file; the tool puts in what it can read. */
export const FILE_PLACEHOLDER = 'cyberun-file:'

/** Why an assignment is not taken. The server gives the task to another agent, or ends it when it is `invalid`. */
export interface Decline {
  readonly reason: DeclineReason
  /** One sentence for the task's owner. */
  readonly message: string
  /** The model or node class that is missing. */
  readonly detail?: string
}

/** How an attempt ended. A `fault` of `client` is never tried again. */
export type Outcome = AttemptOutcome

/** How far a run is; every field but `progress` for tools that know it. */
export interface Progress {
  /** 0 to 1. */
  readonly progress: number
  readonly currentNode?: string
  readonly stepCurrent?: number
  readonly stepTotal?: number
  readonly stage?: string
  readonly message?: string
}

/** What a run made. `key` names it in the output and in `download_urls`: `9.images.0`. */
export interface ArtifactFile {
  readonly key: string
  readonly path: string
  readonly fileName: string
  readonly contentType: string
}

/** What a tool is given for one attempt. Nothing here throws for a lost link: it is kept and sent when there is one. */
export interface Run {
  readonly assignment: Assignment
  /** The attempt's own folder, removed when the server has everything. */
  readonly folder: string
  /** `output` in it, there already. */
  readonly outputFolder: string
  /**
   * Fetches an input file into the folder, once; waits for a link if there is none. Rejects with `InputError` when the
   * server refuses it or its bytes are wrong, and with the signal's reason when the run is cancelled.
   */
  input(fileKey: string): Promise<{ path: string; fileName: string; contentType: string; size: number }>
  /** One line without its end. Lines beyond the bounds are counted and left out, and the log says so. */
  log(stream: 'stdout' | 'stderr', line: string): void
  /** What the agent itself has to say, shown among the log lines. */
  note(message: string): void
  /** Latest wins; may be called as often as one likes. */
  progress(progress: Progress): void
  /** Latest wins; may be called as often as one likes. Larger than 192 KiB is left out. */
  preview(contentType: string, bytes: Uint8Array): void
  /** Somebody else's work is in front of this run, inside the tool. */
  waitingInTool(position: number): void
  /** Resolves when the server has the file for good. Rejects with `ArtifactError` when it will not have it. */
  artifact(file: ArtifactFile): Promise<void>
  /** Keeps a fact (it replaces the former one) over the agent's restart; on disk when this resolves. */
  remember(fact: JsonObject): Promise<void>
  readonly remembered: JsonObject | undefined
  /**
   * The later steps of the cancel ladder; `run`'s own signal is the first. `again` after 10 s; `kill` after 30 s, or at
   * once when the attempt is no longer ours: whatever the run started must then be gone, however rude.
   */
  readonly again: AbortSignal
  readonly kill: AbortSignal
}

/** An input file that cannot be had: its time is over, or it is damaged. */
export class InputError extends Error {
  override readonly name = 'InputError'
}

/** A file that the server will not keep. */
export class ArtifactError extends Error {
  override readonly name = 'ArtifactError'
  readonly code: ArtifactRefusal

  constructor(code: ArtifactRefusal, message: string) {
    super(message)
    this.code = code
  }
}

/**
 * The reason of the signal of a run whose agent stops, for tools with `resume`: what runs elsewhere is left running, and
 * the next process of this agent takes it up again. Whatever `run` resolves with is then ignored.
 */
export class AgentStopping extends Error {
  override readonly name = 'AgentStopping'
}

export interface Tool {
  readonly type: ToolType
  /** What this machine offers with it now; undefined when it cannot be used here at present. */
  detect(signal: AbortSignal): Promise<ToolOffer | undefined>
  /** Asked every few seconds, beside runs too. `detect` is asked again when a tool becomes ready. */
  health(signal: AbortSignal): Promise<ToolHealth>
  /** Whether it can run this; a reason otherwise. Has 4 s. */
  check(assignment: Assignment, signal: AbortSignal): Promise<Decline | undefined>
  /**
   * Runs it to its end. `signal` is the first step of the cancel ladder; a cancelled run resolves with `cancelled`. What
   * it throws is a failure of the tool.
   */
  run(run: Run, signal: AbortSignal): Promise<Outcome>
  /** Takes up a run that a former process of this agent left; resolves undefined when it is lost. */
  resume?(run: Run, signal: AbortSignal): Promise<Outcome | undefined>
  /** The loopback port of the tool's own service, for a tool that has one: that is what its runs expose. */
  readonly servicePort?: number | undefined
  /** Ends what it started for itself, such as a server that it supervises. Twice is harmless. */
  stop?(): Promise<void>
}

/** What every tool is made with. */
export interface ToolDeps {
  readonly log: Log
  /** For what outlives a run; the tool makes its own folder in it. */
  readonly stateDir: string
  /** The agent's own environment; programs get a few variables of it. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Monotonic milliseconds. */
  now(): number
}
