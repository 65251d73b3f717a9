import { inflateSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { type Fractal, FractalDrawing } from '../../../src/tools/demo/fractal.ts'
import { encodePng } from '../../../src/tools/demo/png.ts'

const WHOLE: Fractal = {
  width: 90,
  height: 60,
  iterations: 200,
  center_x: -0.75,
  center_y: 0,
  zoom: 1,
  palette: 'fire',
}

function drawn(fractal: Fractal): FractalDrawing {
  const drawing = new FractalDrawing(fractal)
  for (const _ of drawing.draw());
  return drawing
}

const pixel = ({ pixels, fractal }: FractalDrawing, x: number, y: number) => [
  ...pixels.subarray((y * fractal.width + x) * 3, (y * fractal.width + x) * 3 + 3),
]

describe('a fractal', () => {
  test('is black inside the set, coloured outside, and symmetric about the real axis', () => {
    const drawing = drawn(WHOLE)
    expect(pixel(drawing, 45, 30)).toEqual([0, 0, 0])
    expect(pixel(drawing, 0, 0)).not.toEqual([0, 0, 0])
    for (let x = 0; x < 90; x += 7) expect(pixel(drawing, x, 10)).toEqual(pixel(drawing, x, 50))
  })

  test('comes in shares that grow to 1, each point painted once', () => {
    const shares = [...new FractalDrawing(WHOLE).draw()]
    expect(shares).toEqual([...shares].sort((a, b) => a - b))
    expect(shares.at(-1)).toBe(1)
  })

  test('is there as a whole, coarsely, long before it is done', () => {
    const drawing = new FractalDrawing(WHOLE)
    for (const share of drawing.draw()) if (share > 0.02) break
    const { width, height, rgb } = drawing.thumbnail(30)
    expect([width, height]).toEqual([30, 20])
    expect(rgb.filter((value) => value > 0).length).toBeGreaterThan(rgb.length / 3)
  })
})

test('a picture is a PNG whose pixels are those given', () => {
  const rgb = Uint8Array.from({ length: 5 * 3 * 3 }, (_, index) => index * 5)
  const png = encodePng(5, 3, rgb)
  expect(png.subarray(0, 8).toString('latin1')).toBe('\x89PNG\r\n\x1a\n')
  expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([5, 3])
  const dataAt = png.indexOf('IDAT')
  const lines = inflateSync(png.subarray(dataAt + 4, dataAt + 4 + png.readUInt32BE(dataAt - 4)))
  expect(lines.length).toBe(3 * 16)
  expect([...lines.subarray(17, 32)]).toEqual([...rgb.subarray(15, 30)])
})
