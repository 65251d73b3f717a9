import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { AGENT_CONFIG_FILE, agentSocketUrl } from '@cyberun/agent'
import pc from 'picocolors'
import { checkUrl, findAccount } from '../connect.ts'
import { type Context, printResult } from '../context.ts'
import { apiSteps } from '../doctor/api.ts'
import { checkEdge } from '../doctor/edge.ts'
import type { Route } from '../doctor/network.ts'
import { type Check, runSteps } from '../doctor/steps.ts'
import { CliError } from '../errors.ts'
import type { ExitName } from '../exit-codes.ts'
import { readIfThere } from '../private-file.ts'
import { proxyFor } from '../proxy.ts'
import { agentKeyPath, dataDir, quickstartPath, readQuickstart } from '../quickstart.ts'
import { printable } from '../text.ts'
import { agentConfig } from './agent.ts'

export interface DoctorOptions {
  config?: string
  url?: string
  gateway?: string
}

/** All checks together; the last of them measure for a fixed time, so this is met only when something hangs. */
const ALL_MS = 9_500

/** `cyberun doctor`. */
export async function doctor(context: Context, options: DoctorOptions): Promise<ExitName> {
  const api = await apiRoute(context, options)
  const edge = await edgeRoute(context, options)
  if (api === undefined && edge === undefined) {
    const message = 'there is nothing to check: sign in with "cyberun login", or give --url or --gateway'
    throw new CliError('usage', 'usage', message)
  }
  const signal = AbortSignal.timeout(ALL_MS)
  using edgeCheck = edge && checkEdge(edge.route, edge.key)
  const [ofApi, ofEdge] = await Promise.all([
    api ? runSteps('api', apiSteps(context, api), signal) : [],
    edgeCheck ? runSteps('edge', edgeCheck.steps, signal) : [],
  ])
  const checks = [...ofApi, ...ofEdge]
  const failed = checks.filter(({ result }) => result === 'failed')
  printResult(context, { is_healthy: failed.length === 0, check_list: checks }, () => {
    const parts = [
      ...(api ? [part('API', api.url, ofApi)] : []),
      ...(edge ? [part('Edge', edge.route.url, ofEdge)] : []),
    ]
    const sum = failed.length === 0 ? pc.green('Nothing is wrong.') : pc.red(`${failed.length} to mend.`)
    return `${parts.join('\n')}\n${sum}\n`
  })
  return failed.length === 0 ? 'ok' : 'failed'
}

const ENV_CA = 'set NODE_EXTRA_CA_CERTS to the PEM file of its authority'

async function apiRoute(context: Context, options: DoctorOptions): Promise<Route | undefined> {
  const url = options.url === undefined ? undefined : checkUrl('--url', options.url)
  const found = url ?? (options.gateway === undefined ? (await findAccount(context))?.controlUrl : undefined)
  if (found === undefined) return undefined
  const target = new URL(found)
  return { url: target, proxy: proxyFor(context, target), ca: undefined, caRemedy: ENV_CA }
}

/** `--gateway`, else the agent's settings, else what `cyberun up` left here. */
async function edgeRoute(
  context: Context,
  options: DoctorOptions,
): Promise<{ route: Route; key: string | undefined } | undefined> {
  const { env } = context
  if (options.gateway !== undefined) {
    if (!/^(wss?|https?):$/.test(URL.parse(options.gateway)?.protocol ?? '')) {
      const message = `--gateway must be a URL such as wss://edge.example.org:8788, not "${options.gateway}"`
      throw new CliError('usage', 'invalid_url', message)
    }
    return fromEnv(context, options.gateway, env['CYBERUN_AGENT_KEY'])
  }
  if (options.url !== undefined) return undefined
  const file = options.config ?? env['CYBERUN_AGENT_CONFIG']
  if (file !== undefined || existsSync(resolve(context.cwd, AGENT_CONFIG_FILE)) || env['CYBERUN_AGENT_GATEWAY_URL']) {
    const config = agentConfig(context, options)
    const caRemedy = `set ca_file in ${config.file ?? AGENT_CONFIG_FILE} to the PEM file of its authority`
    return {
      route: { url: config.gatewayUrl, proxy: config.proxy, ca: config.ca, caRemedy },
      key: config.agentKey,
    }
  }
  const dir = dataDir(context)
  const quickstart = await readQuickstart(quickstartPath(dir))
  if (quickstart === undefined) return undefined
  return fromEnv(context, quickstart.edge_url, (await readIfThere(agentKeyPath(dir)))?.trim())
}

function fromEnv(context: Context, gateway: string, key: string | undefined) {
  const url = agentSocketUrl(gateway)
  return { route: { url, proxy: proxyFor(context, url), ca: undefined, caRemedy: ENV_CA }, key }
}

const MARKS = { ok: pc.green('ok     '), failed: pc.red('FAILED '), skipped: pc.dim('-      ') }

function part(name: string, url: URL, checks: readonly Check[]): string {
  const rows = checks.map(({ layer, result, detail, remedy }) => {
    const row = `  ${MARKS[result]}${layer.replace('_', ' ').padEnd(12)}${printable(detail)}\n`
    return remedy === undefined ? row : `${row}         ${' '.repeat(12)}→ ${printable(remedy)}\n`
  })
  return `${name} ${printable(url.href)}\n${rows.join('')}`
}
