import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import type { JsonObject } from '@cyberun/protocol'
import type { ArtifactFile, Assignment, Progress, Run, ToolDeps } from '../../../src/tools/tool.ts'
import { FILE_PLACEHOLDER } from '../../../src/tools/tool.ts'

export interface Artifact {
  readonly key: string
  readonly fileName: string
  readonly contentType: string
  readonly bytes: Buffer
}

let lastTask = 0

/** What the runner gives a tool, with everything that the tool did to it. */
export class TestRun implements Run, Disposable {
  readonly assignment: Assignment
  readonly folder = mkdtempSync(join(tmpdir(), 'cyberun-run-'))
  readonly outputFolder = join(this.folder, 'output')
  readonly artifacts: Artifact[] = []
  readonly notes: string[] = []
  readonly logs: string[] = []
  readonly reports: Progress[] = []
  readonly previews: { contentType: string; bytes: Uint8Array }[] = []
  readonly positions: number[] = []
  readonly facts: JsonObject[] = []
  remembered: JsonObject | undefined
  /** Called when the tool remembers, or has sent a file. */
  onRemember: () => void = () => {}
  onArtifact: () => void = () => {}
  readonly #inputs: ReadonlyMap<string, Buffer>
  readonly #steps = { asked: new AbortController(), again: new AbortController(), kill: new AbortController() }

  /** `inputs` are the files of the assignment by file key; the graph names them with `inputPlaceholder`. */
  constructor(workflow: JsonObject, options: { inputs?: Record<string, Buffer>; requiredModels?: string[] } = {}) {
    mkdirSync(this.outputFolder)
    const inputs = Object.entries(options.inputs ?? {})
    this.#inputs = new Map(inputs)
    this.assignment = {
      taskId: `task-${process.pid}-${++lastTask}`,
      fence: 1,
      toolType: 'comfyui',
      workflowSlug: 'test',
      workflowVersion: 1,
      workflow,
      parameters: {},
      files: inputs.map(([fileKey, { length }]) => ({
        parameter: 'image',
        fileKey,
        fileName: `../../${fileKey}.png`,
        contentType: 'image/png',
        size: length,
        sha256: '',
      })),
      requiredModels: options.requiredModels ?? [],
      exposePort: undefined,
    }
  }

  get signal(): AbortSignal {
    return this.#steps.asked.signal
  }

  get again(): AbortSignal {
    return this.#steps.again.signal
  }

  get kill(): AbortSignal {
    return this.#steps.kill.signal
  }

  /** Climbs the cancel ladder to a step. */
  cancel(step: 'asked' | 'again' | 'kill' = 'asked', reason?: Error): void {
    this.#steps.asked.abort(reason)
    if (step !== 'asked') this.#steps.again.abort()
    if (step === 'kill') this.#steps.kill.abort()
  }

  async input(fileKey: string): Promise<{ path: string; fileName: string; contentType: string; size: number }> {
    const bytes = this.#inputs.get(fileKey)
    if (bytes === undefined) throw new Error(`no input ${fileKey}`)
    const path = join(this.folder, 'input')
    writeFileSync(path, bytes)
    return { path, fileName: `../../${fileKey}.png`, contentType: 'image/png', size: bytes.length }
  }

  log(stream: 'stdout' | 'stderr', line: string): void {
    this.logs.push(`${stream} ${line}`)
  }

  note(message: string): void {
    this.notes.push(message)
  }

  progress(progress: Progress): void {
    this.reports.push(progress)
  }

  preview(contentType: string, bytes: Uint8Array): void {
    this.previews.push({ contentType, bytes })
  }

  waitingInTool(position: number): void {
    this.positions.push(position)
  }

  async artifact({ key, path, fileName, contentType }: ArtifactFile): Promise<void> {
    this.artifacts.push({ key, fileName, contentType, bytes: readFileSync(path) })
    this.onArtifact()
  }

  async remember(fact: JsonObject): Promise<void> {
    this.onRemember()
    this.remembered = fact
    this.facts.push(fact)
  }

  get artifactKeys(): string[] {
    return this.artifacts.map(({ key }) => key)
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

export const inputPlaceholder = (fileKey: string): string => FILE_PLACEHOLDER + fileKey

export const TEST_DEPS: ToolDeps = {
  log: createLog({ level: 'silent', format: 'json' }),
  stateDir: tmpdir(),
  env: {},
  now: () => performance.now(),
}
