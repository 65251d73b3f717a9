import { mkdirSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type AssignLine,
  type AttemptName,
  type JsonObject,
  parseAgentTaskLine,
  parseServerTaskLine,
} from '@cyberun/protocol'
import { readIfThere } from '../read-if-there.ts'
import type { LeftToSay } from './outbox.ts'

const ASSIGN = 'assign.json'
const REMEMBERED = 'remembered.json'
const LEFT = 'left.jsonl'

/**
 * The folder of one attempt: `input` and `output` of its run, and what a next process of this agent must know of it:
 * `assign.json`, `remembered.json`, and, once it is over, `left.jsonl`: the lines that the server has not acknowledged. Made when first needed: many runs need none, and 500 a second are
 * asked for. Nothing is synced: after a power failure there is no run left to find again.
 */
export class AttemptFolder {
  readonly #assign: AssignLine
  readonly #path: string
  #isMade: boolean
  #isWritten: boolean

  constructor(tasksDir: string, assign: AssignLine, isThere: boolean) {
    this.#assign = assign
    this.#path = pathOf(tasksDir, assign)
    this.#isMade = isThere
    this.#isWritten = isThere
  }

  get path(): string {
    if (!this.#isMade) mkdirSync(this.#path, { recursive: true, mode: 0o700 })
    this.#isMade = true
    return this.#path
  }

  /** A folder in it, there when this returns. */
  within(name: 'input' | 'output' | 'events'): string {
    const path = join(this.path, name)
    mkdirSync(path, { recursive: true, mode: 0o700 })
    return path
  }

  saveRemembered(fact: JsonObject): Promise<void> {
    return this.#save(REMEMBERED, JSON.stringify(fact))
  }

  /** `lines`: those that the server has not acknowledged, as they go over the wire, `finished` the last of them. */
  saveLeft(lines: readonly string[]): Promise<void> {
    return this.#save(LEFT, lines.join('\n'))
  }

  async remove(): Promise<void> {
    if (this.#isMade) await rm(this.#path, { recursive: true, force: true })
  }

  async #save(name: string, text: string): Promise<void> {
    if (!this.#isWritten) await writeWhole(join(this.path, ASSIGN), JSON.stringify(this.#assign))
    this.#isWritten = true
    await writeWhole(join(this.path, name), text)
  }
}

/** What a former process of this agent left of an attempt. */
export interface AttemptRecord {
  readonly assign: AssignLine
  readonly remembered: JsonObject | undefined
  /** Of one that is over. */
  readonly left: LeftToSay | undefined
}

/**
 * Reads what was left, the oldest task first, and removes every folder that no next process can go on with. A folder
 * that cannot be read or removed, as where a program left files of another user in it, is told of and stays.
 */
export async function readRecords(tasksDir: string, onStays: (error: unknown) => void): Promise<AttemptRecord[]> {
  await mkdir(tasksDir, { recursive: true, mode: 0o700 })
  const records: AttemptRecord[] = []
  for (const entry of (await readdir(tasksDir)).sort()) {
    const path = join(tasksDir, entry)
    try {
      const record = await readRecord(path)
      if (record && pathOf(tasksDir, record.assign) === path) records.push(record)
      else await rm(path, { recursive: true, force: true })
    } catch (error) {
      onStays(error)
    }
  }
  return records
}

/** The id in it was checked by the parser of the line: letters, digits, dots, dashes, no dot in front. */
function pathOf(tasksDir: string, { task_id, fence }: AttemptName): string {
  return join(tasksDir, `${task_id}.${fence}`)
}

async function readRecord(path: string): Promise<AttemptRecord | undefined> {
  try {
    const assign = parseServerTaskLine(await readFile(join(path, ASSIGN), 'utf8'))
    if (assign?.type !== 'assign') return undefined
    const remembered = await readIfThere(join(path, REMEMBERED))
    const left = await readIfThere(join(path, LEFT))
    return {
      assign,
      remembered: remembered === undefined ? undefined : (JSON.parse(remembered) as JsonObject),
      left: left === undefined ? undefined : leftToSay(left),
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // What cannot be read now (EMFILE, EIO) may be whole.
    if (code !== undefined && code !== 'ENOENT' && code !== 'ENOTDIR') throw error
    // Without an assignment, or damaged: the attempt is lost, and the server learns it as the hello does not name it.
    return undefined
  }
}

/** Reads what `saveLeft` has written; throws at anything else. */
export function leftToSay(text: string): LeftToSay {
  const lines = text.split('\n').map((line) => parseAgentTaskLine(line))
  const last = lines.pop()
  if (last?.type !== 'finished') throw new Error('the end of the attempt is missing')
  const events = lines.map((line) => {
    if (line?.type !== 'event') throw new Error('only events come before the end of an attempt')
    return line.event
  })
  return { after: last.sequence - events.length - 1, events, outcome: last.outcome }
}

/** The file has its old content or the new, whatever kills us. */
async function writeWhole(file: string, text: string): Promise<void> {
  const draft = `${file}.draft`
  await writeFile(draft, text, { mode: 0o600 })
  await rename(draft, file)
}
