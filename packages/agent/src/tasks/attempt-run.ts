import { lstat } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { type AttemptName, type JsonObject, safeFileName, unreachable } from '@cyberun/protocol'
import {
  ArtifactError,
  type ArtifactFile,
  type Assignment,
  InputError,
  type Progress,
  type Run,
} from '../tools/tool.ts'
import type { CancelLadder } from './cancel-ladder.ts'
import type { CurrentLink } from './current-link.ts'
import type { RunLimits } from './limits.ts'
import type { AttemptFolder } from './records.ts'
import type { TaskLog } from './task-log.ts'
import { fetchInput, fileDigest, sendArtifact, type Turns } from './transfers.ts'

type InputPath = Awaited<ReturnType<Run['input']>>

/** What a run is made of, apart from what its tool does. */
export interface RunParts {
  readonly assignment: Assignment
  readonly folder: AttemptFolder
  readonly remembered: JsonObject | undefined
  readonly ladder: CancelLadder
  readonly log: TaskLog
  readonly links: CurrentLink
  readonly turns: Turns
  readonly limits: RunLimits
  onProgress(progress: Progress): void
  onPreview(contentType: string, bytes: Uint8Array): void
  onWaitingInTool(position: number): void
  /** The server said on a file's stream that the attempt is no longer ours. */
  onLate(): void
}

/** The face that one attempt shows to its tool. */
export class AttemptRun implements Run {
  readonly assignment: Assignment
  readonly #parts: RunParts
  readonly #name: AttemptName
  readonly #inputs = new Map<string, Promise<InputPath>>()
  #remembered: JsonObject | undefined

  constructor(parts: RunParts) {
    this.#parts = parts
    this.assignment = parts.assignment
    this.#name = { task_id: parts.assignment.taskId, fence: parts.assignment.fence }
    this.#remembered = parts.remembered
  }

  get folder(): string {
    return this.#parts.folder.path
  }

  get outputFolder(): string {
    return this.#parts.folder.within('output')
  }

  get remembered(): JsonObject | undefined {
    return this.#remembered
  }

  get again(): AbortSignal {
    return this.#parts.ladder.again
  }

  get kill(): AbortSignal {
    return this.#parts.ladder.kill
  }

  log(stream: 'stdout' | 'stderr', line: string): void {
    this.#parts.log.line(stream, line)
  }

  note(message: string): void {
    this.#parts.log.note(message)
  }

  progress(progress: Progress): void {
    this.#parts.onProgress(progress)
  }

  preview(contentType: string, bytes: Uint8Array): void {
    this.#parts.onPreview(contentType, bytes)
  }

  waitingInTool(position: number): void {
    this.#parts.onWaitingInTool(position)
  }

  async remember(fact: JsonObject): Promise<void> {
    await this.#parts.folder.saveRemembered(fact)
    this.#remembered = fact
  }

  input(fileKey: string): Promise<InputPath> {
    const fetched = this.#inputs.get(fileKey) ?? this.#fetch(fileKey, this.#inputs.size)
    this.#inputs.set(fileKey, fetched)
    return fetched
  }

  async artifact(file: ArtifactFile): Promise<void> {
    const signal = this.#parts.ladder.asked
    const found = await lstat(file.path)
    if (!found.isFile()) throw new ArtifactError('invalid', `${file.fileName} is no plain file`)
    const tries = new Tries(this.#parts)
    for (;;) {
      const digest = await fileDigest(file.path, signal)
      const header = {
        ...this.#name,
        key: file.key,
        file_name: safeFileName(file.fileName),
        content_type: file.contentType,
        ...digest,
      }
      const link = await this.#parts.links.wait(signal)
      const answer = await this.#parts.turns.take(() => sendArtifact(link, header, file.path, signal), signal)
      if (answer.type === 'stored') return
      if (answer.type === 'lost') {
        await tries.again(link, signal, () => new ArtifactError('invalid', 'the server did not take the file'))
        continue
      }
      switch (answer.code) {
        case 'late':
          this.#parts.onLate()
          signal.throwIfAborted()
          throw new ArtifactError(answer.code, answer.message)
        case 'too_large':
        case 'invalid':
          throw new ArtifactError(answer.code, `${file.fileName} (${found.size} bytes): ${answer.message}`)
        // A file that changed while it was sent is sent as it is now; a full store may be emptied.
        case 'hash_mismatch':
        case 'no_space': {
          const { code, message } = answer
          await tries.again(undefined, signal, () => new ArtifactError(code, `${file.fileName}: ${message}`))
          break
        }
        default:
          return unreachable(answer.code)
      }
    }
  }

  async #fetch(fileKey: string, number: number): Promise<InputPath> {
    const file = this.assignment.files.find((candidate) => candidate.fileKey === fileKey)
    if (!file) throw new InputError(`the task has no input file ${fileKey}`)
    const signal = this.#parts.ladder.asked
    // The number keeps two files of one name apart; the ending is what programs look at.
    const path = join(this.#parts.folder.within('input'), `${number}${extname(safeFileName(file.fileName))}`)
    const tries = new Tries(this.#parts)
    for (;;) {
      const link = await this.#parts.links.wait(signal)
      const answer = await this.#parts.turns.take(
        () => fetchInput(link, { ...this.#name, file_key: fileKey }, path, file, signal),
        signal,
      )
      switch (answer.type) {
        case 'file':
          return { path, fileName: file.fileName, contentType: file.contentType, size: file.size }
        case 'refused':
          if (answer.code === 'late') this.#parts.onLate()
          signal.throwIfAborted()
          throw new InputError(`${file.fileName}: ${answer.message}`)
        case 'lost':
          await tries.again(link, signal, () => new InputError(`${file.fileName}: the server did not send it`))
          break
        case 'damaged':
          await tries.again(undefined, signal, () => new InputError(`${file.fileName}: ${answer.message}`))
          break
        default:
          return unreachable(answer)
      }
    }
  }
}

/** Counts what went wrong without a link being lost: that is waited out, everything else is tried so often. */
class Tries {
  readonly #parts: RunParts
  #count = 0

  constructor(parts: RunParts) {
    this.#parts = parts
  }

  /** Waits before the next try; throws `failure` when there were too many. `link` is the one a loss was seen on. */
  async again(link: object | undefined, signal: AbortSignal, failure: () => Error): Promise<void> {
    const { limits, links } = this.#parts
    if (link !== undefined && links.now !== link) return
    this.#count += 1
    if (this.#count >= limits.transferTries) throw failure()
    await pause(limits.retryMs, undefined, { signal })
  }
}
