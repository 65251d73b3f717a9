import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join, normalize, relative, resolve } from 'node:path'

const MODEL_FOLDERS = ['checkpoints', 'loras', 'vae', 'diffusion_models', 'text_encoders', 'controlnet']

/** The folders of one ComfyUI below its base directory. */
export class Folders {
  readonly #base: string

  constructor(base: string) {
    this.#base = resolve(base)
    for (const name of ['input', 'output', 'temp']) mkdirSync(join(this.#base, name), { recursive: true })
    for (const name of MODEL_FOLDERS) mkdirSync(join(this.#base, 'models', name), { recursive: true })
  }

  /** The absolute path of one of the folders that `/view` and uploads know; undefined for any other name. */
  byType(type: string): string | undefined {
    return ['input', 'output', 'temp'].includes(type) ? join(this.#base, type) : undefined
  }

  /** As at every start and exit of ComfyUI. */
  wipeTemp(): void {
    rmSync(join(this.#base, 'temp'), { recursive: true, force: true })
    mkdirSync(join(this.#base, 'temp'), { recursive: true })
  }

  get modelFolders(): readonly string[] {
    return MODEL_FOLDERS
  }

  /** File names below a model folder, with their subfolders; undefined for a folder that is none. */
  models(folder: string): string[] | undefined {
    if (!MODEL_FOLDERS.includes(folder)) return undefined
    const root = join(this.#base, 'models', folder)
    return readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(root, join(entry.parentPath, entry.name)))
      .sort()
  }

  /**
   * Where a saver writes next: `prefix` may name subfolders, and the counter follows the highest number there, as
   * `folder_paths.get_save_image_path` has it.
   */
  nextFile(type: 'output' | 'temp', prefix: string): { subfolder: string; stem: string; counter: number } {
    const wanted = normalize(prefix)
    const root = join(this.#base, type)
    if (relative(root, resolve(root, wanted)).startsWith('..'))
      throw new Error('Saving image outside the output folder is not allowed.')
    const slash = wanted.lastIndexOf('/')
    const subfolder = slash < 0 ? '' : wanted.slice(0, slash)
    const stem = wanted.slice(slash + 1)
    const folder = join(root, subfolder)
    const numbers = existsSync(folder)
      ? readdirSync(folder).flatMap((name) =>
          name.startsWith(`${stem}_`) ? [Number.parseInt(name.slice(stem.length + 1), 10)] : [],
        )
      : []
    mkdirSync(folder, { recursive: true })
    return { subfolder, stem, counter: Math.max(0, ...numbers.filter(Number.isFinite)) + 1 }
  }
}
