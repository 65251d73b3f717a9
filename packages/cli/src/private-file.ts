import { randomBytes } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { makeFolder } from '@cyberun/link/folders'
import { CliError } from './errors.ts'

/** The text of a file, or undefined when there is none. Another failure is a `CliError` that names the file. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT' || codeOf(cause) === 'ENOTDIR') return undefined
    throw new CliError('failed', 'file_unreadable', `${path} cannot be read: ${codeOf(cause)}`, { cause })
  }
}

/**
 * Replaces a file that holds secrets: mode 0600, in a folder of mode 0700, and either wholly written or not at all,
 * also when the power fails.
 */
export async function writePrivate(path: string, text: string): Promise<void> {
  const draft = `${path}.${randomBytes(6).toString('hex')}.tmp`
  try {
    makeFolder(dirname(path), 0o700)
    const file = await open(draft, 'wx', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(draft, path)
  } catch (cause) {
    await rm(draft, { force: true })
    throw new CliError('failed', 'file_unwritable', `${path} cannot be written: ${codeOf(cause)}`, { cause })
  }
}

/** The `code` of a system error, or its text. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : String(error)
}

/** A JSON object with text fields, as our own files are; a `CliError` that says which field is wrong, and what to do. */
export function parseFields<K extends string>(
  path: string,
  text: string,
  keys: readonly K[],
  remedy: string,
): { [key in K]: string } {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    throw new CliError('failed', 'file_unreadable', `${path} is not JSON: ${remedy}`, { cause })
  }
  if (typeof parsed !== 'object' || parsed === null) {
    throw new CliError('failed', 'file_unreadable', `${path} is not a JSON object: ${remedy}`)
  }
  for (const key of keys) {
    if (typeof (parsed as Record<string, unknown>)[key] !== 'string') {
      throw new CliError('failed', 'file_unreadable', `${path} has no text in "${key}": ${remedy}`)
    }
  }
  return parsed as { [key in K]: string }
}
