import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { z } from 'zod'
import { AGENT_VERSION } from '../../version.ts'
import type { Assignment, Outcome, Run, Tool } from '../tool.ts'
import { type Fractal, PALETTE_NAMES } from './fractal.ts'
import type { FractalJob, FromFractal } from './fractal-worker.ts'

const FRACTAL = z.object({
  width: z.int().min(16).max(4_096).default(1_024),
  height: z.int().min(16).max(4_096).default(768),
  iterations: z.int().min(10).max(10_000).default(500),
  center_x: z.number().min(-2.5).max(2.5).default(-0.7436438870371587),
  center_y: z.number().min(-2.5).max(2.5).default(0.1318259042053119),
  zoom: z.number().min(0.5).max(1e12).default(500),
  palette: z.enum(PALETTE_NAMES).default('fire'),
})

type Program = { kind: 'echo' } | { kind: 'fractal'; fractal: Fractal } | { kind: 'invalid'; message: string }

/**
 * What every machine can run, without a GPU or a model: `{"program": "fractal"}` draws a picture in steps, `{"program":
 * "echo"}` answers with its parameters, for benchmarks and trials.
 */
export function createDemoTool(): Tool {
  return {
    type: 'demo',
    detect: () => Promise.resolve({ version: AGENT_VERSION, labels: [] }),
    health: () => Promise.resolve({ state: 'ready' }),
    check(assignment) {
      const program = programOf(assignment)
      const why = program.kind === 'invalid' ? { reason: 'invalid' as const, message: program.message } : undefined
      return Promise.resolve(why)
    },
    async run(run, signal) {
      const program = programOf(run.assignment)
      switch (program.kind) {
        case 'echo':
          return { kind: 'completed', output: run.assignment.parameters }
        case 'fractal':
          return drawFractal(run, program.fractal, signal)
        case 'invalid':
          return { kind: 'failed', code: 'invalid_workflow', message: program.message, fault: 'client' }
      }
    },
  }
}

/** What the workflow asks for. Parameters may have been put into the workflow, or stand beside it. */
function programOf({ workflow, parameters }: Assignment): Program {
  const name = workflow['program']
  if (name === 'echo') return { kind: 'echo' }
  if (name !== 'fractal') {
    return {
      kind: 'invalid',
      message: 'The demo tool runs the programs fractal and echo: set "program" to one of them.',
    }
  }
  const parsed = FRACTAL.safeParse({ ...workflow, ...parameters })
  if (parsed.success) return { kind: 'fractal', fractal: parsed.data }
  const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
  return { kind: 'invalid', message: `The fractal cannot be drawn. ${faults.join('; ')}` }
}

async function drawFractal(run: Run, fractal: Fractal, signal: AbortSignal): Promise<Outcome> {
  const path = join(run.outputFolder, 'fractal.png')
  run.log('stdout', `drawing ${fractal.width} × ${fractal.height} points, up to ${fractal.iterations} steps each`)
  const points = await inThread(run, { fractal, path }, signal)
  if (points === undefined) return { kind: 'cancelled' }
  const key = 'fractal.images.0'
  await run.artifact({ key, path, fileName: 'fractal.png', contentType: 'image/png' })
  run.log('stdout', `drew ${points} points`)
  return { kind: 'completed', output: { fractal: { images: [{ file_name: 'fractal.png', artifact: key }] } } }
}

/** Draws in a thread of its own, which is ended when the run is. Resolves with the points drawn; undefined when cancelled. */
async function inThread(run: Run, job: FractalJob, signal: AbortSignal): Promise<number | undefined> {
  const worker = new Worker(new URL('./fractal-worker.ts', import.meta.url), { workerData: job })
  const ended = Promise.withResolvers<number | undefined>()
  const cancel = (): void => ended.resolve(undefined)
  if (signal.aborted) cancel()
  signal.addEventListener('abort', cancel, { once: true })
  worker.on('message', (message: FromFractal) => {
    switch (message.type) {
      case 'progress':
        run.progress({ progress: message.share, currentNode: 'fractal' })
        return
      case 'preview':
        run.preview('image/png', message.png)
        return
      case 'done':
        run.progress({ progress: 1, currentNode: 'fractal' })
        ended.resolve(message.points)
    }
  })
  worker.on('error', ended.reject)
  worker.on('exit', () => ended.reject(new Error('the thread that draws ended too early')))
  try {
    return await ended.promise
  } finally {
    signal.removeEventListener('abort', cancel)
    await worker.terminate()
  }
}
