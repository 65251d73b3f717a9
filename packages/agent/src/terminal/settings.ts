import { z } from 'zod'

/** As text too, because a setting may come from an environment variable. */
const asWritten = (raw: unknown): unknown => (raw === 'true' ? true : raw === 'false' ? false : raw)

/** `terminal:` of `cyberun-agent.yaml`: whether the team may open shells on this machine, as whom, and which. */
export const TERMINAL_SETTINGS = z.preprocess(
  asWritten,
  z.union(
    [
      z.boolean(),
      z.strictObject({
        user: z
          .string()
          .regex(/^[A-Za-z_][\w.-]{0,31}$/)
          .optional(),
        shell: z.string().startsWith('/').optional(),
      }),
    ],
    { error: 'expected true, false, or { user: name, shell: /path/to/shell }' },
  ),
)

export type TerminalSettings = z.output<typeof TERMINAL_SETTINGS>
