import { redactSecrets } from '@cyberun/protocol'
import { type Logger, pino } from 'pino'

export type Log = Logger

export interface LogOptions {
  level: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  /** `text` for people at a terminal, `json` (one object a line) for everything else. */
  format: 'text' | 'json'
  /** Where lines go; standard error unless a test listens. */
  write?: (line: string) => void
}

/**
 * The process's log. An event is a dotted name with fields: `log.info({ agent_id }, 'link.up')`.
 * Every line passes the redaction of secrets last, whatever put them in.
 */
export function createLog(options: LogOptions): Log {
  const write = options.write ?? ((line: string) => void process.stderr.write(line))
  const render = options.format === 'text' ? renderText : (line: string) => line
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.err },
    },
    { write: (line: string) => write(render(redactSecrets(line))) },
  )
}

/** `12:00:01.123 info  link.up agent_id=studio-7`, with control characters kept escaped as JSON escapes them. */
function renderText(line: string): string {
  const { level, time, msg, ...fields } = JSON.parse(line) as Record<string, unknown>
  const pairs = Object.entries(fields).map(([key, value]) => `${key}=${renderValue(value)}`)
  return `${[String(time).slice(11, 23), String(level).padEnd(5), msg ?? '', ...pairs].join(' ')}\n`
}

function renderValue(value: unknown): string {
  return typeof value === 'string' && /^[\w.:/@+-]+$/.test(value) ? value : JSON.stringify(value)
}
