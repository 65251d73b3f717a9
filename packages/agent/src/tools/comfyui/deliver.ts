import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type JsonObject, safeFileName } from '@cyberun/protocol'
import type { Run } from '../tool.ts'
import type { HistoryEntry } from './answers.ts'
import { download } from './download.ts'
import type { Engine } from './engine.ts'
import type { Graph } from './graph.ts'
import { mayCarryGraph, stripImageMetadata } from './image-metadata.ts'
import { describeOutputs, type OutputItem, outputKey, readOutputs } from './outputs.ts'
import type { PictureWriter } from './pictures.ts'

/** Longer texts become files: an output has to fit into one line of the wire. */
const LONGEST_TEXT = 8_000

/**
 * Brings everything a finished prompt made to the server, and returns the task's output once all of it is safe there.
 * Rejects with `OutputGone` when ComfyUI no longer has a file.
 */
export async function deliverOutputs(
  engine: Engine,
  run: Run,
  graph: Graph,
  entry: HistoryEntry,
  pictures: PictureWriter,
  signal: AbortSignal,
): Promise<JsonObject> {
  const items = readOutputs(entry, graph)
  const delivery = new Delivery(engine, run, signal)
  for (const item of items) await delivery.send(item)
  const drawn: OutputItem[] = []
  for (const picture of await pictures.finished()) {
    const item = { node: picture.node, kind: 'images', index: picture.index, item: { value: null } }
    await delivery.artifact({ key: outputKey(item), ...picture })
    drawn.push(item)
  }
  return describeOutputs([...items, ...drawn], delivery.names)
}

class Delivery {
  /** File names by key, of everything that is safe. */
  readonly names = new Map<string, string>()
  readonly #engine: Engine
  readonly #run: Run
  readonly #signal: AbortSignal
  #warned = false

  constructor(engine: Engine, run: Run, signal: AbortSignal) {
    this.#engine = engine
    this.#run = run
    this.#signal = signal
  }

  async send(output: OutputItem): Promise<void> {
    const key = outputKey(output)
    const number = this.names.size
    if ('file' in output.item) {
      const fileName = safeFileName(output.item.file.filename)
      const path = join(this.#run.outputFolder, `${number}-${fileName}`)
      const { http, times } = this.#engine
      const { contentType } = await download(http, output.item.file, path, times.fileIdleMs, this.#signal)
      await this.#strip(path, fileName)
      await this.artifact({ key, path, fileName, contentType })
    } else if (typeof output.item.value === 'string' && output.item.value.length > LONGEST_TEXT) {
      const path = join(this.#run.outputFolder, `${number}-text.txt`)
      await writeFile(path, output.item.value)
      await this.artifact({ key, path, fileName: `${output.kind}.txt`, contentType: 'text/plain; charset=utf-8' })
    }
  }

  async artifact(file: { key: string; path: string; fileName: string; contentType: string }): Promise<void> {
    this.#signal.throwIfAborted()
    const { key, path, fileName, contentType } = file
    await this.#run.artifact({ key, path, fileName, contentType })
    this.names.set(key, fileName)
  }

  async #strip(path: string, fileName: string): Promise<void> {
    if (this.#engine.settings.image_metadata === 'keep' || (await stripImageMetadata(path))) return
    if (this.#warned || !mayCarryGraph(fileName)) return
    const { stats } = await this.#engine.abilities(this.#signal)
    if (stats.argv.includes('--disable-metadata')) return
    this.#warned = true
    this.#run.note(`${fileName} may hold the workflow among its metadata; ComfyUI's --disable-metadata keeps it out.`)
  }
}
