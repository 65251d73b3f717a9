import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Folders } from './folders.ts'
import { decodePng, encodePng, filled, inverted, type Raster, scaled } from './raster.ts'

/** What flows along a link of a graph: a batch of pictures, or a plain value. */
export type NodeValue = readonly Raster[] | string | number | boolean

/** What a node shows in history: lists by kind. */
export type NodeUi = Readonly<Record<string, readonly unknown[]>>

export interface NodeResult {
  readonly values: readonly NodeValue[]
  readonly ui?: NodeUi
}

/** What a node may use while it runs. */
export interface NodeContext {
  readonly folders: Folders
  /** The whole graph: savers write it into their files. */
  readonly graph: unknown
  readonly writesMetadata: boolean
  /** Reports a step, with a picture if there is one, and throws `Interrupted` when somebody asked for that. */
  progress(value: number, max: number, picture?: Buffer): Promise<void>
}

/** The type of an input, or the list of values that a combo accepts, and its bounds. */
export type InputSpec = readonly [type: string | readonly string[], extra?: Readonly<Record<string, unknown>>]

export interface NodeClass {
  readonly required: Readonly<Record<string, InputSpec>>
  readonly optional?: Readonly<Record<string, InputSpec>>
  /** The types of what it gives to others. */
  readonly outputs: readonly string[]
  readonly isOutput?: true
  /** Its result is never taken from the cache. */
  readonly alwaysRuns?: true
  /** Inputs that it checks itself, each with what is wrong. */
  validate?(inputs: Readonly<Record<string, unknown>>, folders: Folders): Record<string, string>
  run(inputs: Readonly<Record<string, NodeValue>>, context: NodeContext): NodeResult | Promise<NodeResult>
}

const SIDE: InputSpec = ['INT', { default: 512, min: 1, max: 16_384 }]
/** Half of the time is left to those who ask. */
const WORK_MS = 20
const NOTHING: NodeResult = { values: [] }

/** The node classes of the simulator; those that list files read them from `folders` at each call. */
export function nodeClasses(folders: Folders): Readonly<Record<string, NodeClass>> {
  return {
    EmptyImage: {
      required: {
        width: SIDE,
        height: SIDE,
        batch_size: ['INT', { default: 1, min: 1, max: 4096 }],
        color: ['INT', { default: 0, min: 0, max: 0xffffff }],
      },
      outputs: ['IMAGE'],
      run: ({ width, height, batch_size, color }) => ({
        values: [
          Array.from({ length: Number(batch_size) }, () => filled(Number(width), Number(height), Number(color))),
        ],
      }),
    },
    ImageScale: {
      required: {
        image: ['IMAGE'],
        upscale_method: [['nearest-exact', 'bilinear', 'area', 'bicubic', 'lanczos']],
        width: ['INT', { default: 512, min: 0, max: 16_384 }],
        height: ['INT', { default: 512, min: 0, max: 16_384 }],
        crop: [['disabled', 'center']],
      },
      outputs: ['IMAGE'],
      run: ({ image, width, height }) => ({
        values: [pictures(image).map((raster) => scaled(raster, Number(width), Number(height)))],
      }),
    },
    ImageInvert: {
      required: { image: ['IMAGE'] },
      outputs: ['IMAGE'],
      run: ({ image }) => ({ values: [pictures(image).map(inverted)] }),
    },
    SolidMask: {
      required: { value: ['FLOAT', { default: 1, min: 0, max: 1 }], width: SIDE, height: SIDE },
      outputs: ['MASK'],
      run: ({ value, width, height }) => {
        const grey = Math.round(Number(value) * 255)
        return { values: [[filled(Number(width), Number(height), (grey << 16) | (grey << 8) | grey)]] }
      },
    },
    MaskToImage: {
      required: { mask: ['MASK'] },
      outputs: ['IMAGE'],
      run: ({ mask }) => ({ values: [pictures(mask)] }),
    },
    LoadImage: {
      required: { image: [inputFiles(folders), { image_upload: true }] },
      outputs: ['IMAGE', 'MASK'],
      validate: ({ image }) =>
        existsSync(join(folders.byType('input') ?? '', String(image))) ? {} : { image: `Invalid image file: ${image}` },
      run: ({ image }) => {
        const raster = decodePng(readFileSync(join(folders.byType('input') ?? '', String(image))))
        if (raster === undefined) throw new Error(`cannot identify image file '${image}'`)
        return { values: [[raster], [filled(raster.width, raster.height, 0)]] }
      },
    },
    SaveImage: {
      required: { images: ['IMAGE'], filename_prefix: ['STRING', { default: 'ComfyUI' }] },
      outputs: [],
      isOutput: true,
      run: ({ images, filename_prefix }, context) =>
        saved('output', pictures(images), String(filename_prefix), context),
    },
    PreviewImage: {
      required: { images: ['IMAGE'] },
      outputs: [],
      isOutput: true,
      run: ({ images }, context) => saved('temp', pictures(images), 'ComfyUI_temp_simul', context),
    },
    SaveImageWebsocket: {
      required: { images: ['IMAGE'] },
      outputs: [],
      isOutput: true,
      alwaysRuns: true,
      async run({ images }, context) {
        const batch = pictures(images)
        for (const [step, raster] of batch.entries()) await context.progress(step, batch.length, encodePng(raster))
        return NOTHING
      },
    },
    PreviewAny: {
      required: { source: ['*'] },
      outputs: [],
      isOutput: true,
      run: ({ source }) => ({ values: [], ui: { text: [String(source)] } }),
    },
    PrimitiveString: {
      required: { value: ['STRING', {}] },
      outputs: ['STRING'],
      run: ({ value }) => ({ values: [String(value)] }),
    },
    CheckpointLoaderSimple: {
      required: { ckpt_name: [folders.models('checkpoints') ?? []] },
      outputs: ['MODEL', 'CLIP', 'VAE'],
      run: ({ ckpt_name }) => ({ values: [String(ckpt_name), String(ckpt_name), String(ckpt_name)] }),
    },
    /** Stands for what needs a model and a GPU: makes a picture in steps, with previews. */
    KSampler: {
      required: {
        model: ['MODEL'],
        seed: ['INT', { default: 0, min: 0, max: Number.MAX_SAFE_INTEGER }],
        steps: ['INT', { default: 20, min: 1, max: 10_000 }],
        sampler_name: [['euler', 'dpmpp_2m']],
      },
      outputs: ['IMAGE'],
      async run({ seed, steps }, context) {
        const raster = filled(64, 64, Number(seed) & 0xffffff)
        const preview = encodePng(raster)
        for (let step = 1; step <= Number(steps); step++) {
          await delay(2)
          await context.progress(step, Number(steps), preview)
        }
        return { values: [[raster]] }
      },
    },
    ...testNodes,
  }
}

/** The first two are of ComfyUI's own test pack; the rest is the simulator's. */
const testNodes: Readonly<Record<string, NodeClass>> = {
  TestSleep: {
    required: { value: ['*', {}], seconds: ['FLOAT', { default: 1, min: 0, max: 9999 }] },
    outputs: ['*'],
    async run({ value = '', seconds }, context) {
      const total = Number(seconds)
      const began = performance.now()
      for (let now = 0; now < total; ) {
        await delay(10)
        now = (performance.now() - began) / 1000
        await context.progress(now, total)
      }
      return { values: [value] }
    },
  },
  TestSyncError: {
    required: { value: ['*', {}] },
    outputs: ['*'],
    run() {
      throw new Error('Intentional sync execution error for testing')
    },
  },
  /** Looks at nothing while it works, as many nodes do. */
  SimulatedBlock: {
    required: { value: ['*', {}], seconds: ['FLOAT', { default: 1, min: 0, max: 9999 }] },
    outputs: ['*'],
    async run({ value = '', seconds }) {
      await delay(Number(seconds) * 1000)
      return { values: [value] }
    },
  },
  /** The same, but at work: as a model that is being read, or a large picture being scaled. */
  SimulatedWork: {
    required: { value: ['*', {}], seconds: ['FLOAT', { default: 1, min: 0, max: 9999 }] },
    outputs: ['*'],
    async run({ value = '', seconds }) {
      const until = performance.now() + Number(seconds) * 1000
      while (performance.now() < until) {
        const pauseAt = performance.now() + WORK_MS
        while (performance.now() < pauseAt);
        await delay(WORK_MS)
      }
      return { values: [value] }
    },
  },
  /** Files of kinds and names that no core node makes. `listing` is the JSON of its output. */
  SimulatedFiles: {
    required: { listing: ['STRING', {}], bytes: ['INT', { default: 1000, min: 0, max: 1 << 30 }] },
    outputs: [],
    isOutput: true,
    run({ listing, bytes }, { folders }) {
      const ui: Record<string, unknown[]> = JSON.parse(String(listing))
      for (const item of Object.values(ui).flat()) {
        const file = typeof item === 'string' ? { filename: item } : (item as Record<string, unknown>)
        if (typeof file['filename'] !== 'string') continue
        const folder = join(folders.byType(String(file['type'] ?? 'output')) ?? '', String(file['subfolder'] ?? ''))
        writeFileSync(join(folder, file['filename']), Buffer.alloc(Number(bytes), 'simulated '))
      }
      return { values: [], ui }
    },
  },
}

function pictures(value: NodeValue | undefined): readonly Raster[] {
  if (!Array.isArray(value)) throw new TypeError(`a picture was expected, not ${typeof value}`)
  return value
}

function inputFiles(folders: Folders): string[] {
  const folder = folders.byType('input') ?? ''
  return existsSync(folder) ? ['example.png'] : []
}

function saved(type: 'output' | 'temp', batch: readonly Raster[], prefix: string, context: NodeContext): NodeResult {
  const { subfolder, stem, counter } = context.folders.nextFile(type, prefix)
  const texts = context.writesMetadata ? { prompt: JSON.stringify(context.graph) } : {}
  const images = batch.map((raster, i) => {
    const filename = `${stem}_${String(counter + i).padStart(5, '0')}_.png`
    writeFileSync(join(context.folders.byType(type) ?? '', subfolder, filename), encodePng(raster, texts))
    return { filename, subfolder, type }
  })
  return { values: [], ui: { images } }
}
