import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { join, resolve } from 'node:path'
import { suggest } from '@cyberun/protocol'
import { parse as parseYaml } from 'yaml'
import { z } from 'zod'
import { parseS3Url } from './files/s3-place.ts'
import { urlHost } from './url-host.ts'

/** What is empty or no number is none, although `Number('')` and `Number(null)` are 0: as a port that would be any port. */
const number = (schema: z.ZodCoercedNumber) => z.preprocess((value) => (isNumeric(value) ? value : Number.NaN), schema)
const isNumeric = (value: unknown) => typeof value === 'number' || (typeof value === 'string' && value.trim() !== '')
const port = number(z.coerce.number().int().min(0).max(65_535))
/** An empty one would listen on every address, and one that no URL can hold has no address to tell. */
const host = z.string().refine((text) => URL.canParse(`http://${urlHost(text)}`), {
  error: 'expected an address or a name of this machine, such as 127.0.0.1',
})
const optionalFile = z
  .string()
  .min(1)
  .transform((path) => resolve(path))
  .optional()
const publicUrl = z
  .url({ protocol: /^https?$/ })
  .transform((url) => url.replace(/\/+$/, ''))
  .optional()
const list = z.preprocess(
  (value) => (typeof value === 'string' ? value.split(',').map((item) => item.trim()) : value),
  z.array(z.string().min(1)),
)
const cidr = z.string().refine(
  (text) => {
    const [address = '', bits, ...rest] = text.split('/')
    const family = isIP(address)
    const width = family === 6 ? 128 : 32
    return family !== 0 && rest.length === 0 && (bits === undefined || (/^\d+$/.test(bits) && Number(bits) <= width))
  },
  { error: 'expected an address or a range such as 10.0.0.0/8' },
)

const objectsUrl = z
  .string()
  .optional()
  .superRefine((text, context) => {
    try {
      if (text !== undefined) parseS3Url(text)
    } catch (error) {
      // The URL holds a secret: what is wrong with it is told, it itself is not.
      const fault = error instanceof TypeError ? 'expected s3://key:secret@host:port/bucket' : (error as Error).message
      context.addIssue({ code: 'custom', message: fault })
    }
  })
/** In the environment everything is text. */
const flag = z.union([z.boolean(), z.stringbool({ truthy: ['true'], falsy: ['false'] })])

/** How many ports a range may hold: each open tunnel listens on one. */
const MAX_RANGE = 1_000
const portRange = z
  .string()
  .regex(/^\d{1,5}-\d{1,5}$/, { error: 'expected two ports such as 9000-9099' })
  .transform((text) => {
    const [first = 0, last = 0] = text.split('-').map(Number)
    return { first, last }
  })
  .refine(({ first, last }) => first >= 1 && first <= last && last <= 65_535 && last - first < MAX_RANGE, {
    error: `expected a range within 1-65535, the lower port first, of at most ${MAX_RANGE} ports`,
  })
const wholeFrom = (least: number) => number(z.coerce.number().int().min(least))

/**
 * Every setting there is, as `section.key`. The README's table is checked against this.
 * Durations and sizes carry their unit in the key.
 */
const SETTINGS = z.strictObject({
  data: z.strictObject({ dir: z.string().min(1).default('.cyberun') }).prefault({}),
  control: z
    .strictObject({ host: host.default('127.0.0.1'), port: port.default(8787), public_url: publicUrl })
    .prefault({}),
  edge: z
    .strictObject({
      host: host.default('127.0.0.1'),
      port: port.default(8788),
      public_url: publicUrl,
      tunnel_domain: z
        .string()
        .regex(/^[a-z0-9-]+(\.[a-z0-9-]+)*$/, { error: 'expected a domain name such as tunnels.example.org' })
        .default('localhost'),
      tunnel_port_range: portRange.optional(),
      path_pages: z.enum(['sandbox', 'refuse']).default('sandbox'),
      dangerously_allow_path_pages: flag.default(false),
      tls_cert_file: optionalFile,
      tls_key_file: optionalFile,
      visitor_notice: flag.default(true),
      trusted_proxies: list.pipe(z.array(cidr)).default([]),
    })
    .refine((edge) => (edge.tls_cert_file === undefined) === (edge.tls_key_file === undefined), {
      error: 'tls_cert_file and tls_key_file go together: set both or neither',
    })
    .refine((edge) => !(edge.dangerously_allow_path_pages && edge.path_pages === 'refuse'), {
      error: 'path_pages: refuse and dangerously_allow_path_pages contradict each other: set one of them',
    })
    .prefault({}),
  database: z.strictObject({ url: z.url({ protocol: /^postgres(ql)?$/ }).optional() }).prefault({}),
  objects: z.strictObject({ url: objectsUrl }).prefault({}),
  files: z
    .strictObject({
      max_input_bytes: wholeFrom(1).default(500 * 1024 * 1024),
      max_artifact_bytes: wholeFrom(1).default(20 * 1024 * 1024 * 1024),
      input_retention_hours: wholeFrom(1).default(24),
      output_retention_hours: wholeFrom(1).default(7 * 24),
    })
    .prefault({}),
  metrics: z.strictObject({ host: host.default('127.0.0.1'), port: port.default(8789) }).prefault({}),
  logger: z
    .strictObject({
      level: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
      format: z.enum(['text', 'json', 'auto']).default('auto'),
    })
    .prefault({}),
})

/** The settings of a server, validated and frozen. */
export type Config = z.output<typeof SETTINGS>

/** A setting that cannot be used. `message` has one line per fault: where, what, and what is expected. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

const SECTIONS: Record<string, readonly string[]> = Object.fromEntries(
  Object.entries(SETTINGS.shape).map(([section, schema]) => [section, sectionKeys(schema)]),
)

/** Variables that start like ours but are not settings of a server. */
const NOT_SETTINGS = /^CYBERUN_(CONFIG|CONFIG_DIR|URL|KEY|TEAM|DEBUG|AGENT_.*|TEST_.*)$/

/**
 * Reads the YAML file that `CYBERUN_CONFIG` names, if it does, and lays `CYBERUN_<SECTION>_<KEY>` over it.
 * Throws `ConfigError` for an unreadable file, an unknown setting (with the nearest real one) or a wrong value.
 */
export function loadConfig(env: Record<string, string | undefined>): Config {
  const file = env['CYBERUN_CONFIG']
  const settings: Record<string, Record<string, unknown>> = file === undefined ? {} : readSettingsFile(file)
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || !name.startsWith('CYBERUN_') || NOT_SETTINGS.test(name)) continue
    const [section, key] = settingOf(name)
    settings[section] = { ...settings[section], [key]: value }
  }
  return parseConfig(settings, file)
}

/** Validates settings given as an object, as tests and `cyberun up` do. Throws `ConfigError`. */
export function parseConfig(settings: unknown, file?: string): Config {
  const parsed = SETTINGS.safeParse(settings)
  if (!parsed.success) {
    const lines = parsed.error.issues.flatMap((issue) => describeIssue(issue))
    throw new ConfigError(lines.map((line) => (file === undefined ? line : `${file}: ${line}`)).join('\n'))
  }
  return deepFreeze(parsed.data)
}

/** A file of the server's state inside the data directory. */
export function dataPath(config: Config, name: string): string {
  return join(resolve(config.data.dir), name)
}

function readSettingsFile(file: string): Record<string, Record<string, unknown>> {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (cause) {
    throw new ConfigError(`${file}: cannot be read: ${(cause as Error).message.split(',')[0]}`, { cause })
  }
  let parsed: unknown
  try {
    parsed = parseYaml(text) ?? {}
  } catch (cause) {
    throw new ConfigError(`${file}: cannot be read as YAML: ${(cause as Error).message.split('\n')[0]}`, { cause })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new ConfigError(`${file}: expected sections such as "edge:" with keys below them`)
  }
  for (const [section, body] of Object.entries(parsed)) {
    if (typeof body !== 'object' || body === null || Array.isArray(body)) {
      throw new ConfigError(`${file}: ${section}: expected keys below it, got ${kindOf(body)}`)
    }
  }
  return parsed as Record<string, Record<string, unknown>>
}

/** Not the value: that of a setting in the wrong place may be a URL with a password. */
function kindOf(value: unknown): string {
  if (value === null) return 'nothing'
  return Array.isArray(value) ? 'a list' : `a ${typeof value}`
}

function settingOf(name: string): [section: string, key: string] {
  const rest = name.slice('CYBERUN_'.length).toLowerCase()
  for (const [section, keys] of Object.entries(SECTIONS)) {
    const key = rest.slice(section.length + 1)
    if (rest.startsWith(`${section}_`) && keys.includes(key)) return [section, key]
  }
  const known = Object.entries(SECTIONS).flatMap(([section, keys]) => keys.map((key) => `${section}_${key}`))
  const near = suggest(rest, known)
  const hint =
    near === undefined ? 'see the settings table in README.md' : `did you mean CYBERUN_${near.toUpperCase()}?`
  throw new ConfigError(`${name}: there is no such setting; ${hint}`)
}

function describeIssue(issue: z.core.$ZodIssue): string[] {
  const where = issue.path.join('.')
  if (issue.code !== 'unrecognized_keys') return [`${where || 'settings'}: ${issue.message}`]
  const known = issue.path.length === 0 ? Object.keys(SECTIONS) : (SECTIONS[String(issue.path[0])] ?? [])
  return issue.keys.map((key) => {
    const near = suggest(key, known)
    const hint = near === undefined ? `known here: ${known.join(', ')}` : `did you mean ${near}?`
    return `${[...issue.path, key].join('.')}: there is no such setting; ${hint}`
  })
}

/** The keys of a section's schema, below the wrappers for defaults and checks. */
function sectionKeys(schema: z.ZodType): string[] {
  if (schema instanceof z.ZodObject) return Object.keys(schema.shape)
  if (schema instanceof z.ZodPrefault) return sectionKeys(schema.unwrap() as z.ZodType)
  throw new Error('a section of settings is an object with defaults')
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) deepFreeze(inner)
  return Object.freeze(value)
}
