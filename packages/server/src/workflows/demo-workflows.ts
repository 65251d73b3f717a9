import type { ImportWorkflowBody } from '@cyberun/api'

const number = (key: string, label: string, value: number, min: number, max: number) =>
  ({ key, label, type: 'number', default: value, min, max, required: false, target_path: key }) as const

/** What the first team of an installation finds: the `demo` tool draws it on any machine. */
export const DEMO_WORKFLOWS: readonly ImportWorkflowBody[] = [
  {
    workflow_slug: 'demo-fractal',
    display_name: 'Demo: a fractal',
    description:
      'Draws a part of the Mandelbrot set in steps, with previews, and makes a PNG of it. Needs no GPU and no model.',
    tool_type: 'demo',
    workflow_json: { program: 'fractal' },
    parameters: [
      number('width', 'Width in pixels', 1024, 16, 4096),
      number('height', 'Height in pixels', 768, 16, 4096),
      number('iterations', 'Most iterations for a point', 500, 10, 10_000),
      number('center_x', 'Real part of the middle', -0.7436438870371587, -2.5, 2.5),
      number('center_y', 'Imaginary part of the middle', 0.1318259042053119, -2.5, 2.5),
      number('zoom', 'Zoom', 500, 0.5, 1e12),
      {
        key: 'palette',
        label: 'Colours',
        type: 'select',
        default: 'fire',
        options: ['fire', 'ocean', 'forest', 'gray'],
        required: false,
        target_path: 'palette',
      },
    ],
    required_labels: [],
    required_models: [],
    task_timeout: 600,
    max_retries: 2,
    preferred_gpu: null,
    min_vram_gb: null,
    workflow_status: 'active',
    resume_window: 60,
    expose: null,
  },
]
