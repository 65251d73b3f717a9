import { lstat, readdir, rename } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { type JsonObject, safeFileName } from '@cyberun/protocol'
import type { Run } from './tool.ts'

/** More files than this are no result that anybody looks through. */
const MOST_FILES = 1_000
const MOST_FOLDERS = 1_000

/** What an `output` says of each file. */
interface OutputFile {
  readonly file_name: string
  /** From the output folder on, for people. */
  readonly path: string
  readonly size: number
  readonly artifact: string
}

/**
 * Keeps every plain file below the output folder as an artifact `files.0`, `files.1` …, in the order of their paths.
 * Links are not followed, whatever they point to; the log says what is left out.
 */
export async function keepOutputFiles(run: Run): Promise<JsonObject> {
  const { files, leftOut } = await filesBelow(run.outputFolder)
  for (const why of leftOut) run.note(why)
  const kept: OutputFile[] = []
  for (const [index, { path, shown, name, size }] of files.entries()) {
    const key = `files.${index}`
    await run.artifact({ key, path, fileName: name, contentType: contentTypeOf(name) })
    kept.push({ file_name: name, path: shown, size, artifact: key })
  }
  return { files: kept }
}

interface Found {
  /** Where it lies. */
  readonly path: string
  /** Its path below the folder, fit to be shown. */
  readonly shown: string
  readonly name: string
  readonly size: number
}

async function filesBelow(folder: string): Promise<{ files: Found[]; leftOut: string[] }> {
  const files: Found[] = []
  const leftOut: string[] = []
  const folders = [{ path: folder, shown: '' }]
  for (let index = 0; index < folders.length; index++) {
    const { path: parent, shown: above } = folders[index] ?? { path: folder, shown: '' }
    for (const name of await namesIn(parent)) {
      const path = join(parent, name)
      const found = { path, shown: above + safeFileName(name), name: safeFileName(name) }
      const { size, isFile, isDirectory } = await kindOf(path)
      if (isDirectory && folders.length < MOST_FOLDERS) folders.push({ path, shown: `${found.shown}/` })
      else if (isFile && files.length < MOST_FILES) files.push({ ...found, size })
      else if (leftOut.length < 10) leftOut.push(`${found.shown} is not kept: ${whyNot(isFile || isDirectory)}`)
    }
  }
  return { files: files.sort((a, b) => (a.shown < b.shown ? -1 : 1)), leftOut }
}

async function kindOf(path: string): Promise<{ size: number; isFile: boolean; isDirectory: boolean }> {
  const stats = await lstat(path)
  return { size: stats.size, isFile: stats.isFile(), isDirectory: stats.isDirectory() }
}

function whyNot(isTooMany: boolean): string {
  return isTooMany ? `a run keeps at most ${MOST_FILES} files` : 'it is a link or no file'
}

/** The names in a folder. One that is no UTF-8 could not be opened by its text, so it is renamed first. */
async function namesIn(folder: string): Promise<string[]> {
  const names: string[] = []
  for (const [index, raw] of (await readdir(folder, { encoding: 'buffer' })).entries()) {
    const name = raw.toString('utf8')
    if (Buffer.from(name, 'utf8').equals(raw)) {
      names.push(name)
      continue
    }
    const better = `${index}-${safeFileName(name)}`
    await rename(Buffer.concat([Buffer.from(`${folder}/`), raw]), join(folder, better))
    names.push(better)
  }
  return names
}

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
  '.webp': 'image/webp',
  '.gif': 'image/gif',
  '.mp4': 'video/mp4',
  '.webm': 'video/webm',
  '.wav': 'audio/wav',
  '.mp3': 'audio/mpeg',
  '.json': 'application/json',
  '.txt': 'text/plain',
  '.log': 'text/plain',
  '.csv': 'text/csv',
  '.zip': 'application/zip',
}

function contentTypeOf(name: string): string {
  return CONTENT_TYPES[extname(name).toLowerCase()] ?? 'application/octet-stream'
}
