import { type CommandSettings, PLACEHOLDER } from './settings.ts'

/** The kernel takes no longer argument. */
const MOST_BYTES = 128 * 1024 - 1

/** Parameters that do not fit into a command. The message names the parameter, and says what to do. */
export class ArgumentError extends Error {
  override readonly name = 'ArgumentError'
}

/** The names that a command's arguments want a value for. */
export function placeholdersOf({ args }: Pick<CommandSettings, 'args'>): string[] {
  const names = args.flatMap((argument) => [...argument.matchAll(PLACEHOLDER)].map(([, name]) => name))
  return [...new Set(names.filter((name) => name !== undefined))]
}

/**
 * Puts values into the argument templates. One template is one argument, whatever the value holds: there is no shell.
 * Throws `ArgumentError`.
 */
export function fillArguments(
  { args }: Pick<CommandSettings, 'args'>,
  values: Readonly<Record<string, unknown>>,
): string[] {
  return args.map((template) => {
    const filled = template.replace(PLACEHOLDER, (match: string, name: string | undefined, at: number) => {
      if (name === undefined) return match.charAt(0)
      const value = textOf(name, Object.hasOwn(values, name) ? values[name] : undefined)
      // At the start of an argument it could become an option that the owner never meant to allow.
      if (at === 0 && value.startsWith('-') && Number.isNaN(Number(value))) {
        throw new ArgumentError(`${name}: must not begin with a dash`)
      }
      return value
    })
    if (Buffer.byteLength(filled) > MOST_BYTES) {
      throw new ArgumentError(`an argument would have more than ${MOST_BYTES} bytes: pass long text as a file`)
    }
    return filled
  })
}

function textOf(name: string, value: unknown): string {
  if (value === undefined || value === null) throw new ArgumentError(`${name}: the command needs a value`)
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  if (text.includes('\0')) throw new ArgumentError(`${name}: must not hold a NUL character`)
  return text
}
