import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import type { NerfstudioWorkflow } from './settings.ts'

/** What the five stages of one run work on. */
export interface StagesInput {
  /** A video, or a folder of pictures. */
  readonly source: { readonly kind: 'video' | 'images'; readonly path: string }
  readonly workflow: NerfstudioWorkflow
  /** For what only the stages need. */
  readonly workFolder: string
  /** For what the task's owner gets. */
  readonly outputFolder: string
}

export interface Stage {
  readonly name: 'process-data' | 'train' | 'eval' | 'export' | 'render'
  readonly program: string
  readonly args: readonly string[]
  /** Its share of the whole run, as a rule. */
  readonly share: number
}

/** One name for experiment and time stamp, so that it is known where `ns-train` puts its configuration. */
const RUN = 'run'

/** The pipeline of Nerfstudio's own programs, as its command line reference describes them. */
export function stagesOf({ source, workflow, workFolder, outputFolder }: StagesInput): Stage[] {
  const data = join(workFolder, 'data')
  const trained = join(workFolder, 'trained')
  const config = join(trained, RUN, workflow.method, RUN, 'config.yml')
  return [
    {
      name: 'process-data',
      program: 'ns-process-data',
      args: [
        source.kind,
        ...['--data', source.path, '--output-dir', data],
        ...(source.kind === 'video' ? ['--num-frames-target', String(workflow.frames)] : []),
      ],
      share: 0.15,
    },
    {
      name: 'train',
      program: 'ns-train',
      args: [
        workflow.method,
        ...['--data', data, '--output-dir', trained, '--experiment-name', RUN, '--timestamp', RUN],
        ...['--max-num-iterations', String(workflow.max_iterations)],
        // The viewer would keep it running after the training, and listen on a port.
        ...['--vis', 'tensorboard'],
      ],
      share: 0.6,
    },
    {
      name: 'eval',
      program: 'ns-eval',
      args: ['--load-config', config, '--output-path', join(outputFolder, 'metrics.json')],
      share: 0.05,
    },
    {
      name: 'export',
      program: 'ns-export',
      args: [...exportOf(workflow), '--load-config', config, '--output-dir', join(outputFolder, 'export')],
      share: 0.1,
    },
    {
      name: 'render',
      program: 'ns-render',
      args: ['interpolate', '--load-config', config, '--output-path', join(outputFolder, 'render.mp4')],
      share: 0.1,
    },
  ]
}

/** Splats are exported as such; the other methods predict no normals, so those are computed. */
function exportOf({ method }: NerfstudioWorkflow): string[] {
  return method.startsWith('splatfacto') ? ['gaussian-splat'] : ['pointcloud', '--normal-method', 'open3d']
}

/** `1250 (4.17%)  35.5 ms …`, a row of the table that `ns-train` prints. */
const TRAIN_ROW = /^\s*(\d+)\s+\((\d+(?:\.\d+)?)%\)/
const PERCENT = /(?:^|[^\d.])(\d{1,3}(?:\.\d+)?)\s?%/

/** How far a stage is by a line of its program, of 0 to 1, with the step for a line of the training's table. */
export function readStageLine(line: string): { share: number; step?: number } | undefined {
  const text = stripVTControlCharacters(line)
  const row = TRAIN_ROW.exec(text)
  if (row) return { share: Math.min(1, Number(row[2]) / 100), step: Number(row[1]) }
  const percent = PERCENT.exec(text)
  return percent && Number(percent[1]) <= 100 ? { share: Number(percent[1]) / 100 } : undefined
}
