import { copyFile, mkdir } from 'node:fs/promises'
import { extname, join } from 'node:path'
import type { Assignment, Decline, Run } from '../tool.ts'
import type { Engine } from './engine.ts'

/** Why an assignment's files cannot be given to this ComfyUI; another machine's may take more. */
export function refuseLargeInputs(
  { files }: Assignment,
  maxUploadBytes: number | undefined,
  folder: string | undefined,
): Decline | undefined {
  if (maxUploadBytes === undefined || folder !== undefined) return undefined
  const tooLarge = files.find(({ size }) => size > maxUploadBytes)
  if (tooLarge === undefined) return undefined
  return {
    reason: 'not_allowed',
    message:
      `${tooLarge.fileName} has ${tooLarge.size} bytes, and this machine's ComfyUI takes ${maxUploadBytes} at most: ` +
      'start it with a larger --max-upload-size, or set comfyui.folder of the agent.',
  }
}

/**
 * Puts the files of an assignment among ComfyUI's inputs, below `folder`, and tells how a graph names each, by file key.
 * What is too large to be uploaded is copied there when the input folder is known.
 */
export async function placeInputs(
  engine: Engine,
  run: Run,
  folder: string,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, string>> {
  const { maxUploadBytes = Number.POSITIVE_INFINITY } = await engine.abilities(signal)
  const names = new Map<string, string>()
  for (const [index, { fileKey }] of run.assignment.files.entries()) {
    if (names.has(fileKey)) continue
    const { path, fileName, size } = await run.input(fileKey)
    signal.throwIfAborted()
    const name = `${index}${plainExtension(fileName)}`
    const base = engine.settings.folder
    if (size > maxUploadBytes && base !== undefined) {
      await mkdir(join(base, 'input', folder), { recursive: true })
      await copyFile(path, join(base, 'input', folder, name))
      names.set(fileKey, `${folder}/${name}`)
    } else {
      const limited = AbortSignal.any([signal, AbortSignal.timeout(engine.times.uploadMs)])
      names.set(fileKey, await engine.http.upload({ path, name, subfolder: folder }, limited))
    }
  }
  return names
}

/** The ending decides how nodes read a file; the rest of a caller's name is of no use to them. */
function plainExtension(fileName: string): string {
  const extension = extname(fileName).toLowerCase()
  return /^\.[a-z0-9]{1,12}$/.test(extension) ? extension : ''
}
