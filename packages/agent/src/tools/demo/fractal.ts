/** A part of the Mandelbrot set, and how it is coloured. Pure. */
export interface Fractal {
  readonly width: number
  readonly height: number
  /** After so many steps without escape a point counts as inside. */
  readonly iterations: number
  readonly center_x: number
  readonly center_y: number
  /** 1 shows the whole set. */
  readonly zoom: number
  readonly palette: Palette
}

type Colour = readonly [red: number, green: number, blue: number]

/** Colours that blend into each other as points take longer to escape; inside is black. */
const PALETTES = {
  fire: [
    [20, 0, 10],
    [140, 20, 0],
    [250, 140, 10],
    [255, 245, 190],
  ],
  ocean: [
    [0, 8, 40],
    [0, 80, 150],
    [60, 190, 220],
    [240, 255, 255],
  ],
  forest: [
    [8, 24, 8],
    [30, 90, 40],
    [150, 180, 60],
    [250, 245, 200],
  ],
  gray: [
    [16, 16, 16],
    [110, 110, 110],
    [200, 200, 200],
    [255, 255, 255],
  ],
} as const satisfies Record<string, readonly Colour[]>

export type Palette = keyof typeof PALETTES
export const PALETTE_NAMES = Object.keys(PALETTES) as [Palette, ...Palette[]]

/** The picture is drawn in passes over every 16th, 8th … point, so that all of it is there early. */
const STRIDES = [16, 8, 4, 2, 1] as const
/** The height of the complex plane that zoom 1 shows. */
const PLANE = 2.6
/** Escaped far enough that the smooth count has no visible bands. */
const ESCAPE_SQUARED = 64

/** A picture on its way: `pixels` has three bytes a point, coarse blocks where finer ones are still to come. */
export class FractalDrawing {
  readonly fractal: Fractal
  readonly pixels: Uint8Array
  #drawn = 0

  constructor(fractal: Fractal) {
    this.fractal = fractal
    this.pixels = new Uint8Array(fractal.width * fractal.height * 3)
  }

  /** Draws it, a row of points between two yields, each with the share of all points that is done. */
  *draw(): Generator<number, void> {
    const { width, height } = this.fractal
    for (const stride of STRIDES) {
      for (let y = 0; y < height; y += stride) {
        // Points of the pass before are done already.
        const isOldRow = stride < STRIDES[0] && y % (stride * 2) === 0
        for (let x = isOldRow ? stride : 0; x < width; x += isOldRow ? stride * 2 : stride) {
          this.#paint(x, y, stride, colourAt(this.fractal, x, y))
          this.#drawn += 1
        }
        yield this.#drawn / (width * height)
      }
    }
  }

  /** What is there so far, made small: no side longer than `most`. */
  thumbnail(most: number): { width: number; height: number; rgb: Uint8Array } {
    const { width, height } = this.fractal
    const step = Math.max(1, Math.ceil(Math.max(width, height) / most))
    const small = { width: Math.ceil(width / step), height: Math.ceil(height / step) }
    const rgb = new Uint8Array(small.width * small.height * 3)
    for (let y = 0; y < small.height; y++) {
      for (let x = 0; x < small.width; x++) {
        const from = (y * step * width + x * step) * 3
        rgb.set(this.pixels.subarray(from, from + 3), (y * small.width + x) * 3)
      }
    }
    return { ...small, rgb }
  }

  #paint(left: number, top: number, side: number, colour: Colour): void {
    const { width, height } = this.fractal
    const right = Math.min(width, left + side)
    const bottom = Math.min(height, top + side)
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) this.pixels.set(colour, (y * width + x) * 3)
    }
  }
}

function colourAt(fractal: Fractal, x: number, y: number): Colour {
  const { width, height, center_x, center_y, zoom, iterations, palette } = fractal
  const scale = PLANE / (zoom * height)
  const steps = escapeSteps(center_x + (x - width / 2) * scale, center_y - (y - height / 2) * scale, iterations)
  if (steps === undefined) return [0, 0, 0]
  // Each step further out is a smaller step in colour, so that deep and shallow pictures both have contrast.
  return blend(PALETTES[palette], (Math.sqrt(steps) / 6) % 1)
}

/** How many steps z → z² + c takes to escape, as a smooth number; undefined when it does not. */
function escapeSteps(cx: number, cy: number, most: number): number | undefined {
  let zx = 0
  let zy = 0
  for (let step = 0; step < most; step++) {
    const xx = zx * zx
    const yy = zy * zy
    if (xx + yy > ESCAPE_SQUARED) return Math.max(0, step + 1 - Math.log2(Math.log2(xx + yy) / 2))
    zy = 2 * zx * zy + cy
    zx = xx - yy + cx
  }
  return undefined
}

/** A place of 0 to 1 on the way through the colours and back. */
function blend(colours: readonly Colour[], place: number): Colour {
  const there = (place < 0.5 ? place : 1 - place) * 2 * (colours.length - 1)
  const index = Math.min(colours.length - 2, Math.floor(there))
  const [from, to] = [colours[index], colours[index + 1]]
  if (!from || !to) return [0, 0, 0]
  const share = there - index
  const mix = (channel: 0 | 1 | 2): number => Math.round(from[channel] + (to[channel] - from[channel]) * share)
  return [mix(0), mix(1), mix(2)]
}
