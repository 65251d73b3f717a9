import { crc32, deflateSync, inflateSync } from 'node:zlib'

/** A picture of 8-bit RGB. */
export interface Raster {
  readonly width: number
  readonly height: number
  /** Three bytes a pixel, row by row. */
  readonly pixels: Uint8Array
}

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
const CHANNELS = 3

export function filled(width: number, height: number, color: number): Raster {
  const pixels = new Uint8Array(width * height * CHANNELS)
  for (let at = 0; at < pixels.length; at += CHANNELS) {
    pixels[at] = color >>> 16
    pixels[at + 1] = color >>> 8
    pixels[at + 2] = color
  }
  return { width, height, pixels }
}

export function inverted(raster: Raster): Raster {
  return { ...raster, pixels: raster.pixels.map((byte) => 255 - byte) }
}

/** By the nearest pixel. */
export function scaled(raster: Raster, width: number, height: number): Raster {
  const pixels = new Uint8Array(width * height * CHANNELS)
  for (let y = 0; y < height; y++) {
    const fromRow = Math.floor((y * raster.height) / height) * raster.width
    for (let x = 0; x < width; x++) {
      const from = (fromRow + Math.floor((x * raster.width) / width)) * CHANNELS
      pixels.set(raster.pixels.subarray(from, from + CHANNELS), (y * width + x) * CHANNELS)
    }
  }
  return { width, height, pixels }
}

/** A PNG file, with `texts` as tEXt chunks before the pixels, as Pillow writes them. */
export function encodePng(raster: Raster, texts: Readonly<Record<string, string>> = {}): Buffer {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(raster.width, 0)
  header.writeUInt32BE(raster.height, 4)
  header.set([8, 2, 0, 0, 0], 8)
  const stride = raster.width * CHANNELS
  const rows = Buffer.alloc((stride + 1) * raster.height)
  for (let y = 0; y < raster.height; y++) {
    rows.set(raster.pixels.subarray(y * stride, (y + 1) * stride), y * (stride + 1) + 1)
  }
  return Buffer.concat([
    SIGNATURE,
    chunk('IHDR', header),
    ...Object.entries(texts).map(([keyword, text]) => chunk('tEXt', Buffer.from(`${keyword}\0${text}`, 'latin1'))),
    chunk('IDAT', deflateSync(rows, { level: 1 })),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

/** Reads 8-bit RGB and RGBA PNG files without interlacing; undefined for anything else. */
export function decodePng(file: Buffer): Raster | undefined {
  if (!file.subarray(0, 8).equals(SIGNATURE)) return undefined
  let header: Buffer | undefined
  const packed: Buffer[] = []
  for (const { type, data } of pngChunks(file)) {
    if (type === 'IHDR') header = data
    if (type === 'IDAT') packed.push(data)
  }
  const channels = header?.[9] === 2 ? 3 : header?.[9] === 6 ? 4 : undefined
  if (header === undefined || header[8] !== 8 || channels === undefined || header[12] !== 0) return undefined
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)]
  const rows = unfiltered(inflateSync(Buffer.concat(packed)), width * channels, height, channels)
  const pixels = new Uint8Array(width * height * CHANNELS)
  for (let i = 0; i < width * height; i++)
    pixels.set(rows.subarray(i * channels, i * channels + CHANNELS), i * CHANNELS)
  return { width, height, pixels }
}

/** Every chunk of a PNG file, in order; stops at the first that is cut short. */
export function* pngChunks(file: Buffer): Generator<{ type: string; data: Buffer }> {
  for (let at = SIGNATURE.length; at + 12 <= file.length; ) {
    const length = file.readUInt32BE(at)
    if (at + 12 + length > file.length) return
    yield { type: file.toString('latin1', at + 4, at + 8), data: file.subarray(at + 8, at + 8 + length) }
    at += 12 + length
  }
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const framed = Buffer.alloc(body.length + 8)
  framed.writeUInt32BE(data.length, 0)
  framed.set(body, 4)
  framed.writeUInt32BE(crc32(body), body.length + 4)
  return framed
}

/** Undoes the five row filters of PNG (section 9 of its specification). */
function unfiltered(raw: Buffer, stride: number, height: number, step: number): Uint8Array {
  const out = new Uint8Array(stride * height)
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)]
    for (let x = 0; x < stride; x++) {
      const left = x >= step ? (out[y * stride + x - step] ?? 0) : 0
      const up = y > 0 ? (out[(y - 1) * stride + x] ?? 0) : 0
      const upLeft = x >= step && y > 0 ? (out[(y - 1) * stride + x - step] ?? 0) : 0
      out[y * stride + x] = (raw[y * (stride + 1) + 1 + x] ?? 0) + predicted(filter, left, up, upLeft)
    }
  }
  return out
}

function predicted(filter: number | undefined, left: number, up: number, upLeft: number): number {
  switch (filter) {
    case 1:
      return left
    case 2:
      return up
    case 3:
      return (left + up) >>> 1
    case 4: {
      const base = left + up - upLeft
      const [toLeft, toUp, toUpLeft] = [Math.abs(base - left), Math.abs(base - up), Math.abs(base - upLeft)]
      return toLeft <= toUp && toLeft <= toUpLeft ? left : toUp <= toUpLeft ? up : upLeft
    }
    default:
      return 0
  }
}
