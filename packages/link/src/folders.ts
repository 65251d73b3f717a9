import { mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

/** A folder that cannot be made. `code` is the system's. */
export class FolderError extends Error {
  override readonly name = 'FolderError'
  readonly code: string | undefined

  constructor(path: string, cause: NodeJS.ErrnoException) {
    super(`the folder ${path} cannot be made (${cause.code}): choose one that this user can write to`, { cause })
    this.code = cause.code
  }
}

/**
 * Makes `path`, and what is missing above it, with `mode`; it may be there. Throws `FolderError`. Not `mkdir` with
 * `recursive`: Node tries for ever where nothing can be made although the folder above is there, as in /proc.
 */
export function makeFolder(path: string, mode = 0o777): void {
  try {
    makeWithParents(path, mode)
  } catch (cause) {
    throw new FolderError(path, cause as NodeJS.ErrnoException)
  }
}

function makeWithParents(path: string, mode: number): void {
  if (isFolder(path)) return
  const above = dirname(path)
  if (above !== path) makeWithParents(above, mode)
  try {
    mkdirSync(path, { mode })
  } catch (error) {
    // Another process may have made it meanwhile.
    if (!isFolder(path)) throw error
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}
