import { stat } from 'node:fs/promises'
import { CliError } from '../errors.ts'

/** A file of this machine that a run is given. */
export interface LocalFile {
  path: string
  /** Bytes. */
  size: number
  /** Milliseconds since 1970. */
  changedAt: number
}

/** Looks at a file before anything is sent. Throws a `CliError` for what cannot be uploaded. */
export async function localFile(path: string): Promise<LocalFile> {
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    throw new CliError('usage', 'no_file', `${path} cannot be read: ${cause.code ?? cause.message}`, { cause })
  })
  if (!found.isFile()) throw new CliError('usage', 'no_file', `${path} is not a file`)
  return { path, size: found.size, changedAt: found.mtimeMs }
}
