import { z } from 'zod'

/** `nerfstudio:` in cyberun-agent.yaml: where `ns-train` and its siblings are. */
export const NERFSTUDIO_SETTINGS = z.strictObject({
  /** A folder; the agent's PATH when absent. */
  bin: z.string().min(1).optional(),
})

export type NerfstudioSettings = z.output<typeof NERFSTUDIO_SETTINGS>

/** What a workflow of the tool says: in its JSON, or by parameters. */
export const NERFSTUDIO_WORKFLOW = z.object({
  method: z
    .enum([
      'nerfacto',
      'nerfacto-big',
      'nerfacto-huge',
      'depth-nerfacto',
      'instant-ngp',
      'splatfacto',
      'splatfacto-big',
    ])
    .default('nerfacto'),
  max_iterations: z.int().min(1).max(1_000_000).default(30_000),
  /** How many pictures are taken out of a video. */
  frames: z.int().min(10).max(10_000).default(300),
})

export type NerfstudioWorkflow = z.output<typeof NERFSTUDIO_WORKFLOW>
