import { z } from 'zod'
import { COMFYUI_SETTINGS } from './comfyui/settings.ts'
import { COMMANDS } from './command/settings.ts'
import { NERFSTUDIO_SETTINGS } from './nerfstudio/settings.ts'

/** As text too, because a setting may come from an environment variable. */
const whole = (least: number, most: number) =>
  z.preprocess(
    (raw) => (typeof raw === 'string' && /^\d+$/.test(raw) ? Number(raw) : raw),
    z.int().min(least).max(most),
  )
const flag = z.preprocess((raw) => (raw === 'true' ? true : raw === 'false' ? false : raw), z.boolean())

/** The keys of `cyberun-agent.yaml` about tasks: what runs here, and how many at once. */
export const TOOL_SETTINGS = z.object({
  slots: whole(1, 512).default(1),
  demo: flag.default(false),
  comfyui: COMFYUI_SETTINGS.optional(),
  commands: COMMANDS.default([]),
  nerfstudio: NERFSTUDIO_SETTINGS.optional(),
})

export type ToolSettings = z.output<typeof TOOL_SETTINGS>
