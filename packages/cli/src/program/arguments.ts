import { Argument, InvalidArgumentError, Option } from 'commander'

/** `name`: what is read without it. */
export const configFile = (name: string): Option =>
  new Option('-c, --config <file>', `settings file (default: ${name})`)

/** The id of a machine. */
export const agentArgument = (): Argument =>
  new Argument('<agent>', 'the id of a machine, as "cyberun agents" shows it')

/** A port on that machine. */
export const portArgument = (): Argument =>
  new Argument('<port>', 'a port on that machine').argParser(integer(1, 65_535))

/** Parses a whole number within bounds. */
export function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN
    if (value >= least && value <= most) return value
    throw new InvalidArgumentError(`It must be a number from ${least} to ${most}.`)
  }
}

/** An option that may be given several times. */
export function repeatable(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text, before: string[] = []) => [...before, text])
}

/** How long a tunnel may be unused, in seconds. */
export const idleTimeoutOption = (description: string): Option =>
  new Option('--idle-timeout <duration>', description).argParser(duration)

/** `45m`, `8h`, `90s` as seconds. */
function duration(text: string): number {
  const [, amount = '', unit = ''] = /^(\d+)(s|m|h)$/.exec(text) ?? []
  const seconds = Number(amount) * ({ s: 1, m: 60, h: 3600 }[unit] ?? Number.NaN)
  if (seconds >= 60 && seconds <= 86_400) return seconds
  throw new InvalidArgumentError('It must be from 1m to 24h, such as 45m or 8h.')
}
