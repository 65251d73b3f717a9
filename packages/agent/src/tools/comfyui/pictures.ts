import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Pictures that wait to be written; more means that the disk is far behind the socket. */
const MOST_WAITING = 64

/** A full-size picture that came over the socket. */
export interface Picture {
  readonly node: string
  /** Among the pictures of its node. */
  readonly index: number
  readonly path: string
  readonly fileName: string
  readonly contentType: string
}

/** Writes down what `SaveImageWebsocket` sends: its pictures come in the frames of previews, full size. */
export class PictureWriter {
  readonly #folder: string
  readonly #pictures: Picture[] = []
  #waiting = 0
  #writes: Promise<unknown> = Promise.resolve()

  constructor(folder: string) {
    this.#folder = folder
  }

  take(node: string, contentType: string, bytes: Uint8Array): void {
    if (this.#waiting >= MOST_WAITING) {
      this.#writes = Promise.reject(new Error('The pictures of the run come faster than this machine can write them.'))
      this.#writes.catch(() => {})
      return
    }
    const index = this.#pictures.filter((picture) => picture.node === node).length
    const fileName = `picture-${node.replace(/\W/g, '_')}-${index}.${contentType === 'image/png' ? 'png' : 'jpg'}`
    const path = join(this.#folder, fileName)
    this.#pictures.push({ node, index, path, fileName, contentType })
    this.#waiting++
    this.#writes = this.#writes
      .then(() => writeFile(path, bytes))
      .finally(() => {
        this.#waiting--
      })
    // Whoever asks for the pictures is told.
    this.#writes.catch(() => {})
  }

  /** All of them, on disk. Rejects when one could not be written. */
  async finished(): Promise<readonly Picture[]> {
    await this.#writes
    return this.#pictures
  }
}
