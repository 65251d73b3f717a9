import { writeFileSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { type Fractal, FractalDrawing } from './fractal.ts'
import { encodePng } from './png.ts'

/** What the thread is started with. */
export interface FractalJob {
  fractal: Fractal
  /** Where the picture is written. */
  path: string
}

/** What it tells while it draws; the thread ends after `done`. */
export type FromFractal =
  | { type: 'progress'; share: number }
  | { type: 'preview'; png: Uint8Array }
  | { type: 'done'; points: number }

const REPORT_MS = 100
const PREVIEW_MS = 500
/** Of all points, so many are there after the first pass: before, there is next to nothing to see. */
const COARSE_SHARE = 1 / 256
/** At most 256 × 256 points of three bytes: within what a preview may weigh, even if nothing of it compresses. */
const PREVIEW_SIDE = 240

if (parentPort !== null) {
  const port = parentPort
  const { fractal, path } = workerData as FractalJob
  const tell = (message: FromFractal): void => port.postMessage(message)
  const drawing = new FractalDrawing(fractal)
  let reportedAt = Number.NEGATIVE_INFINITY
  let shownAt = Number.NEGATIVE_INFINITY
  for (const share of drawing.draw()) {
    if (share < COARSE_SHARE) continue
    const now = performance.now()
    if (now - reportedAt < REPORT_MS) continue
    reportedAt = now
    tell({ type: 'progress', share })
    if (now - shownAt < PREVIEW_MS) continue
    shownAt = now
    const small = drawing.thumbnail(PREVIEW_SIDE)
    tell({ type: 'preview', png: encodePng(small.width, small.height, small.rgb) })
  }
  writeFileSync(path, encodePng(fractal.width, fractal.height, drawing.pixels))
  tell({ type: 'done', points: fractal.width * fractal.height })
}
