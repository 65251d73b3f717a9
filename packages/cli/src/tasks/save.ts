import { randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { access, constants, link, open, rename, rm, stat } from 'node:fs/promises'
import { extname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { makeFolder } from '@cyberun/link/folders'
import { safeFileName } from '@cyberun/protocol'
import { CliError } from '../errors.ts'

/** A file of a run, as the server offers it. */
export interface OfferedFile {
  key: string
  /** As its maker called it; anything may be in it. */
  name: string
  url: string
}

/** Tries without a byte of progress between them before a download is given up. */
const MOST_FAILURES = 5
const FIRST_PAUSE_MS = 500
const MOST_NAMES = 10_000

/** Makes the folder that files are saved into, if it is not there. Throws a `CliError` when nothing can be saved there. */
export async function makeOutputFolder(folder: string): Promise<void> {
  try {
    makeFolder(folder)
    await access(folder, constants.W_OK)
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    throw new CliError('usage', 'no_folder', `nothing can be saved in ${folder}: ${code ?? message}`, { cause })
  }
}

/** Saves a file of a run into `folder` under a safe name that is not taken yet. Returns where it is. */
export async function saveFile(folder: string, file: OfferedFile, signal: AbortSignal): Promise<string> {
  await makeOutputFolder(folder)
  const name = safeFileName(file.name)
  const part = join(resolve(folder), `.${name.slice(0, 100)}.${randomBytes(6).toString('hex')}.part`)
  try {
    await download(file, part, signal)
    return await settle(part, folder, name)
  } finally {
    await rm(part, { force: true })
  }
}

/** Gives the file its name. Only where nothing is: nothing is ever overwritten. */
async function settle(part: string, folder: string, name: string): Promise<string> {
  const ending = extname(name)
  const stem = name.slice(0, name.length - ending.length)
  for (let count = 1; count < MOST_NAMES; count++) {
    const path = join(folder, count === 1 ? name : `${stem}-${count}${ending}`)
    try {
      await moveTo(part, path)
      return path
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
  throw new CliError(
    'failed',
    'no_name',
    `${folder} has ${MOST_NAMES} files named like ${name}: choose another --output`,
  )
}

/** Throws `EEXIST` where something is. */
async function moveTo(part: string, path: string): Promise<void> {
  try {
    await link(part, path)
  } catch (error) {
    if (!NO_LINKS.has((error as NodeJS.ErrnoException).code ?? '')) throw error
    await (await open(path, 'wx')).close()
    await rename(part, path)
  }
}

/** What file systems without hard links say to one, as exFAT does. */
const NO_LINKS: ReadonlySet<string> = new Set(['EPERM', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'])

/** Downloads to `path`; after a cut it goes on where it was. */
async function download(file: OfferedFile, path: string, signal: AbortSignal): Promise<void> {
  let reached = 0
  for (let failures = 0; ; ) {
    try {
      const response = await fetch(file.url, { signal, headers: reached > 0 ? { range: `bytes=${reached}-` } : {} })
      if (response.status === 416) return // The cut came after the last byte.
      if (!response.ok || !response.body) throw new Refused(`it was answered with ${response.status}`)
      const flags = response.status === 206 ? 'a' : 'w'
      await pipeline(Readable.fromWeb(response.body), createWriteStream(path, { flags, mode: 0o644 }))
      return
    } catch (error) {
      signal.throwIfAborted()
      const before = reached
      reached = (await stat(path).catch(() => ({ size: 0 }))).size
      failures = reached > before ? 1 : failures + 1
      if (error instanceof Refused || isLocal(error) || failures === MOST_FAILURES) throw downloadError(file, error)
      await delay(FIRST_PAUSE_MS * 2 ** (failures - 1), undefined, { signal })
    }
  }
}

class Refused extends Error {}

/** A full disk or a folder that is not ours does not get better by asking again. */
function isLocal(error: unknown): boolean {
  return ['ENOSPC', 'EACCES', 'EROFS', 'EDQUOT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')
}

function downloadError(file: OfferedFile, cause: unknown): CliError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new CliError('failed', 'download_failed', `${file.key} could not be saved: ${reason}`, { cause })
}
