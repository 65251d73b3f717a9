import { mkdirSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type AssignLine,
  type AttemptName,
  type AttemptOutcome,
  type JsonObject,
  parseAgentTaskLine,
  parseServerTaskLine,
} from '@cyberun/protocol'
import { readIfThere } from '../read-if-there.ts'

const ASSIGN = 'assign.json'
const REMEMBERED = 'remembered.json'
const OUTCOME = 'outcome.json'

/**
 * The folder of one attempt: `input` and `output` of its run, and what a next process of this agent must know of it:
 * `assign.json`, `remembered.json`, `outcome.json`. Made when first needed: many runs need none, and 500 a second are
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
    return this.#save(REMEMBERED, fact)
  }

  saveOutcome(outcome: AttemptOutcome): Promise<void> {
    return this.#save(OUTCOME, { type: 'finished', sequence: 1, outcome })
  }

  async remove(): Promise<void> {
    if (this.#isMade) await rm(this.#path, { recursive: true, force: true })
  }

  async #save(name: string, value: unknown): Promise<void> {
    if (!this.#isWritten) await writeWhole(join(this.path, ASSIGN), this.#assign)
    this.#isWritten = true
    await writeWhole(join(this.path, name), value)
  }
}

/** What a former process of this agent left of an attempt. */
export interface AttemptRecord {
  readonly assign: AssignLine
  readonly remembered: JsonObject | undefined
  readonly outcome: AttemptOutcome | undefined
}

/** Reads what was left, and removes every folder that no next process can go on with. */
export async function readRecords(tasksDir: string): Promise<AttemptRecord[]> {
  await mkdir(tasksDir, { recursive: true, mode: 0o700 })
  const records: AttemptRecord[] = []
  for (const entry of await readdir(tasksDir)) {
    const path = join(tasksDir, entry)
    const record = await readRecord(path)
    if (record && pathOf(tasksDir, record.assign) === path) records.push(record)
    else await rm(path, { recursive: true, force: true })
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
    const outcome = await readIfThere(join(path, OUTCOME))
    const finished = outcome === undefined ? undefined : parseAgentTaskLine(outcome)
    return {
      assign,
      remembered: remembered === undefined ? undefined : (JSON.parse(remembered) as JsonObject),
      outcome: finished?.type === 'finished' ? finished.outcome : undefined,
    }
  } catch {
    // Without an assignment, or damaged: the attempt is lost, and the server learns it as the hello does not name it.
    return undefined
  }
}

/** The file has its old content or the new, whatever kills us. */
async function writeWhole(file: string, value: unknown): Promise<void> {
  const draft = `${file}.draft`
  await writeFile(draft, JSON.stringify(value), { mode: 0o600 })
  await rename(draft, file)
}
