import type { JsonObject } from '@cyberun/protocol'

/** Graphs that need neither a model nor a GPU: only nodes that every ComfyUI has. */

const node = (class_type: string, inputs: JsonObject) => ({ class_type, inputs })

/** A picture of one colour; another colour is another picture, so that no cache knows it. */
const emptyImage = (color: number, side = 16, batch = 1) =>
  node('EmptyImage', { width: side, height: side, batch_size: batch, color })

let lastColor = Math.floor(Date.now() / 1000) % 0x800000
/** A colour that no test before had. */
export const freshColor = (): number => ++lastColor

export const saves = (color: number, batch = 1): JsonObject => ({
  1: emptyImage(color, 16, batch),
  9: node('SaveImage', { images: ['1', 0], filename_prefix: 'ComfyUI' }),
})

export const previews = (color: number): JsonObject => ({
  1: emptyImage(color),
  2: node('ImageScale', { image: ['1', 0], upscale_method: 'nearest-exact', width: 32, height: 32, crop: 'disabled' }),
  3: node('PreviewImage', { images: ['2', 0] }),
})

export const sendsToSocket = (color: number): JsonObject => ({
  1: emptyImage(color, 16, 2),
  3: node('SaveImageWebsocket', { images: ['1', 0] }),
})

export const tellsText = (text: string): JsonObject => ({
  1: node('PrimitiveString', { value: text }),
  2: node('PreviewAny', { source: ['1', 0] }),
})

export const invertsInput = (file: string): JsonObject => ({
  1: node('LoadImage', { image: file }),
  2: node('ImageInvert', { image: ['1', 0] }),
  9: node('SaveImage', { images: ['2', 0], filename_prefix: 'inverted/x' }),
})

export const masks = (): JsonObject => ({
  1: node('SolidMask', { value: 1, width: 8, height: 8 }),
  2: node('MaskToImage', { mask: ['1', 0] }),
  9: node('SaveImage', { images: ['2', 0], filename_prefix: '../../../etc/mask' }),
})

/** Of ComfyUI's own test pack: reports progress, and can be interrupted. */
export const sleeps = (color: number, seconds: number): JsonObject => ({
  1: emptyImage(color),
  2: node('TestSleep', { value: ['1', 0], seconds }),
  9: node('SaveImage', { images: ['2', 0], filename_prefix: 'slept' }),
})

export const fails = (color: number): JsonObject => ({
  1: emptyImage(color),
  2: node('TestSyncError', { value: ['1', 0] }),
  9: node('SaveImage', { images: ['2', 0], filename_prefix: 'never' }),
})

/** One output is fine, the other is not: ComfyUI takes the prompt and leaves it out. */
export const halfValid = (color: number): JsonObject => ({
  ...saves(color),
  10: node('ImageScale', { image: ['1', 0], upscale_method: 'magic', width: 32, height: 32, crop: 'disabled' }),
  11: node('SaveImage', { images: ['10', 0], filename_prefix: 'left-out' }),
})

export const needsModel = (name: string): JsonObject => ({
  1: node('CheckpointLoaderSimple', { ckpt_name: name }),
  2: node('PreviewAny', { source: ['1', 0] }),
})

export const needsNode = (name: string): JsonObject => ({ ...saves(1), 5: node(name, {}) })

export const cycle = (): JsonObject => ({
  1: node('ImageInvert', { image: ['2', 0] }),
  2: node('ImageInvert', { image: ['1', 0] }),
  3: node('PreviewImage', { images: ['1', 0] }),
})

export const badValues = (): JsonObject => ({
  ...saves(1),
  1: node('EmptyImage', { width: -4, height: 16, batch_size: 1, color: 0 }),
})

/** From here on for the simulator only: these nodes need a model, or are its own. */

export const samples = (model: string, seed: number, steps = 5): JsonObject => ({
  1: node('CheckpointLoaderSimple', { ckpt_name: model }),
  2: node('KSampler', { model: ['1', 0], seed, steps, sampler_name: 'euler' }),
  9: node('SaveImage', { images: ['2', 0], filename_prefix: 'sampled' }),
})

/** Works without a word, and looks at no interrupt. */
export const blocks = (color: number, seconds: number): JsonObject => ({
  1: emptyImage(color),
  2: node('SimulatedBlock', { value: ['1', 0], seconds }),
  9: node('SaveImage', { images: ['2', 0], filename_prefix: 'blocked' }),
})

/** Says nothing either, and uses the processor. */
export const works = (color: number, seconds: number): JsonObject => ({
  1: emptyImage(color),
  2: node('SimulatedWork', { value: ['1', 0], seconds }),
  9: node('SaveImage', { images: ['2', 0], filename_prefix: 'worked' }),
})

/** Makes the files that `listing`, an output of ComfyUI, names. */
export const makesFiles = (listing: JsonObject, bytes: number): JsonObject => ({
  7: node('SimulatedFiles', { listing: JSON.stringify(listing), bytes }),
})
