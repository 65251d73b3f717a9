import { z } from 'zod'

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
})

export type ToolSettings = z.output<typeof TOOL_SETTINGS>
