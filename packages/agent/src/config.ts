import { X509Certificate } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { homedir, hostname } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { AGENT_LIMITS, isAgentId, isLabel, parseKey, suggest } from '@cyberun/protocol'
import { parse as parseYaml } from 'yaml'
import { z } from 'zod'
import { type PortRules, PortRulesError, parsePortRules } from './ports.ts'
import { type Env, isLoopbackHost, parseProxy, proxyFromEnv } from './proxy.ts'
import { TERMINAL_SETTINGS, type TerminalSettings } from './terminal/settings.ts'
import { TOOL_SETTINGS, type ToolSettings } from './tools/settings.ts'

/** Where an agent's settings are looked for when nothing else is said. */
export const AGENT_CONFIG_FILE = 'cyberun-agent.yaml'

/** The rest of an agent's labels come from its tool and hardware. */
const MOST_OWN_LABELS = AGENT_LIMITS.labels / 2

const path = z.string().min(1)
const list = z.preprocess(
  (raw) => (typeof raw === 'string' ? raw.split(',').map((item) => item.trim()) : raw),
  z.array(z.string()),
)
const portRules = z.unknown().transform((raw, context): PortRules => {
  try {
    return parsePortRules(raw)
  } catch (error) {
    if (!(error instanceof PortRulesError)) throw error
    context.addIssue({ code: 'custom', message: error.message })
    return z.NEVER
  }
})

/** The file `cyberun-agent.yaml`. template.ts shows every key with a comment. */
const SETTINGS = z.strictObject({
  gateway_url: z.url({
    protocol: /^(wss?|https?)$/,
    error:
      'expected the URL of the server\'s edge, such as wss://edge.example.org:8788; "cyberun agent init" writes a file to fill in',
  }),
  agent_key: z.string().optional(),
  agent_key_file: path.optional(),
  agent_id: z
    .string()
    .refine(isAgentId, {
      error: `expected 1 to ${AGENT_LIMITS.idCharacters} letters, digits, dots, dashes or underscores`,
    })
    .optional(),
  agent_labels: list
    .pipe(z.array(z.string().refine(isLabel, { error: 'expected letters, digits or any of _ . : / = + @ -' })))
    .refine((labels) => labels.length <= MOST_OWN_LABELS, { error: `expected at most ${MOST_OWN_LABELS} labels` })
    .default([]),
  tunnel_ports: portRules.default('all'),
  terminal: TERMINAL_SETTINGS.default(false),
  ca_file: path.optional(),
  proxy: path.optional(),
  state_dir: path.optional(),
  ...TOOL_SETTINGS.shape,
  logger: z
    .strictObject({
      level: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
      format: z.enum(['text', 'json', 'auto']).default('auto'),
    })
    .prefault({}),
})

/** What may be given as settings: the shape of the YAML file. */
export type AgentSettings = z.input<typeof SETTINGS>

/** Everything an agent needs to know, read and checked once. */
export interface AgentConfig {
  /** `ws:` or `wss:`, with the path of the agent socket. */
  readonly gatewayUrl: URL
  readonly agentKey: string
  readonly agentId: string
  readonly labels: readonly string[]
  readonly tunnelPorts: PortRules
  /** Whether the team may open shells here, as whom, and which. */
  readonly terminal: TerminalSettings
  /** PEM text of the private authority to trust besides the usual ones. */
  readonly ca: string | undefined
  readonly proxy: URL | undefined
  readonly stateDir: string
  /** What it runs tasks with, and how many at once. */
  readonly tools: ToolSettings
  readonly logger: z.output<typeof SETTINGS>['logger']
  /** The file these came from: `tunnel_ports` is read again when it changes. */
  readonly file: string | undefined
  /** What the owner should know but need not stop for, one sentence each. */
  readonly warnings: readonly string[]
}

/** Settings that cannot be used. `message` has one line per fault: where, what, and what is expected. */
export class AgentConfigError extends Error {
  override readonly name = 'AgentConfigError'
}

/**
 * Reads `file` (or what `CYBERUN_AGENT_CONFIG` names, or `cyberun-agent.yaml` here if there is one) and lays the
 * `CYBERUN_AGENT_…` variables over it. Throws `AgentConfigError`.
 */
export function loadAgentConfig(env: Env, file?: string): AgentConfig {
  const named = file ?? env['CYBERUN_AGENT_CONFIG']
  const found = named ?? (existsSync(AGENT_CONFIG_FILE) ? AGENT_CONFIG_FILE : undefined)
  const settings = found === undefined ? {} : readSettings(found)
  return parseAgentConfig(withOverrides(settings, env), env, found)
}

/** Checks settings given as an object, as `cyberun up` and tests do. Throws `AgentConfigError`. */
export function parseAgentConfig(settings: unknown, env: Env, file?: string): AgentConfig {
  const parsed = SETTINGS.safeParse(settings)
  if (!parsed.success) throw fault(parsed.error.issues.flatMap(describeIssue), file)
  const { data } = parsed
  const base = file === undefined ? '.' : dirname(file)
  const gatewayUrl = agentSocketUrl(data.gateway_url)
  try {
    return Object.freeze({
      gatewayUrl,
      agentKey: agentKey(data, base),
      agentId: data.agent_id ?? defaultAgentId(hostname()),
      labels: data.agent_labels,
      tunnelPorts: data.tunnel_ports,
      terminal: data.terminal,
      ca: data.ca_file === undefined ? undefined : readCertificates(resolve(base, data.ca_file)),
      proxy: chooseProxy(data.proxy, gatewayUrl, env),
      stateDir: data.state_dir === undefined ? defaultStateDir(env) : resolve(base, data.state_dir),
      tools: TOOL_SETTINGS.strip().parse(data),
      logger: data.logger,
      file,
      warnings: warnings(data, gatewayUrl, file),
    })
  } catch (error) {
    if (error instanceof AgentConfigError) throw fault([error.message], file)
    throw error
  }
}

/** The host name as an agent id: `GPU Node_1.local` is `gpu-node_1.local`. */
export function defaultAgentId(host: string): string {
  const id = host
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .slice(0, AGENT_LIMITS.idCharacters)
    .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, '')
  return id === '' ? 'agent' : id
}

/** `https://edge` and `wss://edge` alike are the agent socket `wss://edge/agent`. */
export function agentSocketUrl(raw: string): URL {
  const url = new URL(raw)
  url.protocol = url.protocol === 'https:' || url.protocol === 'wss:' ? 'wss:' : 'ws:'
  if (url.pathname === '/') url.pathname = '/agent'
  return url
}

function agentKey(data: z.output<typeof SETTINGS>, base: string): string {
  if (data.agent_key !== undefined && data.agent_key_file !== undefined) {
    throw new AgentConfigError('agent_key, agent_key_file: set one of them, not both')
  }
  const key =
    data.agent_key_file === undefined
      ? data.agent_key
      : readText('agent_key_file', resolve(base, data.agent_key_file)).trim()
  const where = data.agent_key_file === undefined ? 'agent_key' : 'agent_key_file'
  if (key === undefined || key === '') {
    throw new AgentConfigError(
      'agent_key: missing; make one with "cyberun keys create --kind agent" and set agent_key, agent_key_file or CYBERUN_AGENT_KEY',
    )
  }
  const kind = parseKey(key)
  if (kind === undefined) {
    throw new AgentConfigError(`${where}: this is no key: a character is missing or mistyped; copy it again`)
  }
  if (kind !== 'ak') {
    throw new AgentConfigError(`${where}: an agent needs a key that starts with ak-, this one starts with ${kind}-`)
  }
  return key
}

function chooseProxy(setting: string | undefined, gatewayUrl: URL, env: Env): URL | undefined {
  if (setting === 'none') return undefined
  try {
    return setting === undefined ? proxyFromEnv(gatewayUrl, env) : parseProxy(setting)
  } catch (cause) {
    throw new AgentConfigError(`proxy: ${(cause as Error).message}`, { cause })
  }
}

function defaultStateDir(env: Env): string {
  // systemd sets STATE_DIRECTORY from the unit's StateDirectory=.
  if (env['STATE_DIRECTORY']) return env['STATE_DIRECTORY']
  return join(env['XDG_STATE_HOME'] || join(env['HOME'] || homedir(), '.local', 'state'), 'cyberun-agent')
}

function warnings(data: z.output<typeof SETTINGS>, gatewayUrl: URL, file: string | undefined): string[] {
  const found: string[] = []
  if (gatewayUrl.protocol === 'ws:' && !isLoopbackHost(gatewayUrl.hostname)) {
    found.push('gateway_url is not encrypted: everyone on the way can read the key and all traffic; use wss://')
  }
  if (file !== undefined && data.agent_key !== undefined && (statSync(file).mode & 0o004) !== 0) {
    found.push(`${file} holds the key and every user of this machine can read it: run chmod 600 ${file}`)
  }
  const labels = data.agent_labels.length + data.commands.length
  if (labels > AGENT_LIMITS.labels) {
    const most = `agent_labels and commands make ${labels} labels, and a machine has ${AGENT_LIMITS.labels}`
    found.push(`${most}: the last commands can be run, but not required as command:<name>`)
  }
  return found
}

function readSettings(file: string): Record<string, unknown> {
  const text = readText('settings', file)
  let parsed: unknown
  try {
    parsed = parseYaml(text) ?? {}
  } catch (cause) {
    throw new AgentConfigError(`${file}: cannot be read as YAML: ${(cause as Error).message.split('\n')[0]}`, { cause })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new AgentConfigError(`${file}: expected lines such as "gateway_url: wss://edge.example.org:8788"`)
  }
  return parsed as Record<string, unknown>
}

function readText(what: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'this user may not read it' : code
    throw new AgentConfigError(`${what}: cannot read ${file}: ${why}`, { cause })
  }
}

/** The certificates of `ca_file`. Each is looked at, as TLS leaves out without a word what is none. */
function readCertificates(file: string): string {
  const text = readText('ca_file', file)
  const found = text.match(/-----BEGIN ([A-Z0-9]+ )?CERTIFICATE-----.*?-----END \1CERTIFICATE-----/gs) ?? []
  if (found.length === 0) {
    throw new AgentConfigError(
      `ca_file: ${file} holds no certificate in PEM; "openssl x509 -inform der" makes it of a binary one`,
    )
  }
  for (const [at, certificate] of found.entries()) {
    try {
      new X509Certificate(certificate)
    } catch (cause) {
      throw new AgentConfigError(`ca_file: certificate ${at + 1} in ${file} cannot be read: it is damaged`, { cause })
    }
  }
  return text
}

/** `CYBERUN_AGENT_ID`, `CYBERUN_AGENT_KEY`, `CYBERUN_AGENT_TUNNEL_PORTS`, `CYBERUN_AGENT_LOGGER_LEVEL`, … */
function withOverrides(settings: Record<string, unknown>, env: Env): Record<string, unknown> {
  const merged = { ...settings }
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || !name.startsWith('CYBERUN_AGENT_') || name === 'CYBERUN_AGENT_CONFIG') continue
    const rest = name.slice('CYBERUN_AGENT_'.length).toLowerCase()
    const key = [rest, `agent_${rest}`].find((candidate) => Object.hasOwn(SETTINGS.shape, candidate))
    if (key !== undefined) merged[key] = value
    else if (rest === 'logger_level' || rest === 'logger_format') {
      merged['logger'] = { ...(merged['logger'] as object), [rest.slice('logger_'.length)]: value }
    } else throw new AgentConfigError(`${name}: there is no such setting; ${hint(rest, ENV_KEYS)}`)
  }
  // A key from the environment stands above a key file from the settings, and the other way round.
  if (env['CYBERUN_AGENT_KEY'] !== undefined && env['CYBERUN_AGENT_KEY_FILE'] === undefined)
    delete merged['agent_key_file']
  if (env['CYBERUN_AGENT_KEY_FILE'] !== undefined && env['CYBERUN_AGENT_KEY'] === undefined) delete merged['agent_key']
  return merged
}

const ENV_KEYS = Object.keys(SETTINGS.shape).map((key) => key.replace(/^agent_/, ''))

function describeIssue(issue: z.core.$ZodIssue): string[] {
  const where = issue.path.join('.')
  if (issue.code !== 'unrecognized_keys') return [`${where}: ${issue.message}`]
  const known = KNOWN_KEYS[where]
  return issue.keys.map(
    (key) =>
      `${[...issue.path, key].join('.')}: there is no such setting; ${known ? hint(key, known) : 'docs/tools.md has all'}`,
  )
}

/** By the path of the object they stand in. */
const KNOWN_KEYS: Readonly<Record<string, readonly string[]>> = {
  '': Object.keys(SETTINGS.shape),
  logger: ['level', 'format'],
}

function hint(name: string, known: readonly string[]): string {
  const near = suggest(name, known)
  return near === undefined ? `known are ${known.join(', ')}` : `did you mean ${near}?`
}

function fault(lines: readonly string[], file: string | undefined): AgentConfigError {
  return new AgentConfigError(lines.map((line) => (file === undefined ? line : `${file}: ${line}`)).join('\n'))
}
