import { z } from 'zod'

/** `command:` and the name are a label, which has at most 64 characters. */
const NAME = /^[a-z0-9][a-z0-9_-]{0,55}$/
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/
/** `{name}` in an argument; `{{` and `}}` stand for the braces themselves. */
export const PLACEHOLDER = /\{\{|\}\}|\{([A-Za-z_][\w-]*)\}/g
const LONE_BRACE = /[{}]/

const argument = z.string().refine((text) => !LONE_BRACE.test(text.replace(PLACEHOLDER, '')), {
  error: 'a brace stands alone: write {parameter} for a parameter, {{ or }} for a brace',
})

/** One entry of `commands:` in cyberun-agent.yaml: a program that the machine's owner lets tasks run, and how. */
const COMMAND = z.strictObject({
  name: z.string().regex(NAME, { error: 'expected at most 56 lower-case letters, digits, dashes or underscores' }),
  program: z.string().min(1),
  args: z.array(argument).max(256).default([]),
  cwd: z.string().min(1).optional(),
  env: z
    .record(z.string().regex(VARIABLE, { error: 'expected the name of an environment variable' }), z.string())
    .default({}),
})

export const COMMANDS = z
  .array(COMMAND)
  .max(256)
  .refine((commands) => new Set(commands.map(({ name }) => name)).size === commands.length, {
    error: 'two commands have the same name',
  })

export type CommandSettings = z.output<typeof COMMAND>
