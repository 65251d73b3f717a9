import { type FileHandle, open, rename, stat } from 'node:fs/promises'

/** Where ComfyUI writes the graph into pictures: text chunks, and `comf` in animated ones. */
const PNG_TEXTS = new Set(['tEXt', 'zTXt', 'iTXt', 'comf'])
const WEBP_TEXTS = new Set(['EXIF', 'XMP '])
/** In the flags of a WebP's VP8X chunk. */
const WEBP_EXIF_AND_XMP = 0x08 | 0x04
/** Kinds of files that savers put the graph into, and that are left as they are here. */
const OTHER_CARRIERS = /\.(mp4|webm|mkv|mov|flac|mp3|opus|ogg|latent|safetensors|jpe?g|avif)$/i
const COPY_BYTES = 1 << 20

type Range = readonly [start: number, end: number]

/**
 * Takes the graph (with whatever secrets its inputs hold) out of a PNG or WebP file, in place. Pixels, colour profile
 * and animation stay as they are. False when there was nothing to take out.
 */
export async function stripImageMetadata(path: string): Promise<boolean> {
  const { size } = await stat(path)
  const stripped = `${path}.stripped`
  {
    await using source = await open(path, 'r')
    const kept = await rangesToKeep(source, size)
    if (kept === undefined) return false
    await using target = await open(stripped, 'w+')
    for (const range of kept.ranges) await copy(source, target, range)
    await kept.mend?.(target)
  }
  await rename(stripped, path)
  return true
}

/** Whether a file of this name may hold the graph in a form that `stripImageMetadata` does not know. */
export function mayCarryGraph(fileName: string): boolean {
  return OTHER_CARRIERS.test(fileName)
}

interface Kept {
  readonly ranges: readonly Range[]
  /** Repairs what counts bytes or tells what is inside. */
  mend?(target: FileHandle): Promise<void>
}

async function rangesToKeep(source: FileHandle, size: number): Promise<Kept | undefined> {
  const head = await bytesAt(source, 0, 12)
  if (head.subarray(0, 8).equals(Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'))) {
    const chunk = { headBytes: 8, tailBytes: 4, typeAt: 4, length: (bytes: Buffer) => bytes.readUInt32BE(0) }
    const ranges = await walk(source, size, 8, chunk, PNG_TEXTS)
    return ranges === undefined ? undefined : { ranges }
  }
  if (head.toString('latin1', 0, 4) === 'RIFF' && head.toString('latin1', 8, 12) === 'WEBP') {
    // Chunks of RIFF are padded to an even length.
    const chunk = {
      headBytes: 8,
      tailBytes: 0,
      typeAt: 0,
      length: (bytes: Buffer) => bytes.readUInt32LE(4) + (bytes.readUInt32LE(4) & 1),
    }
    const ranges = await walk(source, size, 12, chunk, WEBP_TEXTS)
    return ranges === undefined ? undefined : { ranges, mend: mendWebp }
  }
  return undefined
}

interface ChunkShape {
  readonly headBytes: number
  readonly tailBytes: number
  readonly typeAt: number
  length(head: Buffer): number
}

/** The ranges between the chunks to leave out; undefined when there are none. What cannot be read as chunks is kept. */
async function walk(
  source: FileHandle,
  size: number,
  first: number,
  shape: ChunkShape,
  leaveOut: ReadonlySet<string>,
): Promise<Range[] | undefined> {
  const ranges: Range[] = []
  let keptFrom = 0
  for (let at = first; at + shape.headBytes <= size; ) {
    const head = await bytesAt(source, at, shape.headBytes)
    const end = Math.min(size, at + shape.headBytes + shape.length(head) + shape.tailBytes)
    if (leaveOut.has(head.toString('latin1', shape.typeAt, shape.typeAt + 4))) {
      ranges.push([keptFrom, at])
      keptFrom = end
    }
    at = end
  }
  return ranges.length === 0 ? undefined : [...ranges, [keptFrom, size]]
}

async function mendWebp(target: FileHandle): Promise<void> {
  const { size } = await target.stat()
  const length = Buffer.alloc(4)
  length.writeUInt32LE(size - 8)
  await target.write(length, 0, 4, 4)
  const extended = await bytesAt(target, 12, 9)
  if (extended.toString('latin1', 0, 4) !== 'VP8X') return
  await target.write(Buffer.from([(extended[8] ?? 0) & ~WEBP_EXIF_AND_XMP]), 0, 1, 20)
}

async function bytesAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  await file.read(buffer, 0, length, at)
  return buffer
}

async function copy(source: FileHandle, target: FileHandle, [start, end]: Range): Promise<void> {
  const buffer = Buffer.alloc(Math.min(COPY_BYTES, Math.max(0, end - start)))
  for (let at = start; at < end; ) {
    const { bytesRead } = await source.read(buffer, 0, Math.min(buffer.length, end - at), at)
    if (bytesRead === 0) return
    await target.write(buffer, 0, bytesRead)
    at += bytesRead
  }
}
