import { join } from 'node:path'
import type { LogOptions } from '@cyberun/link/log'
import { type Config, dataPath, type RunningServer, urlHost } from '@cyberun/server'
import { agentKeyPath, type Quickstart } from '../quickstart.ts'
import type { AgentJob } from './agent-thread.ts'

/** The settings of the agent that runs beside a server. `terminal`: what `CYBERUN_AGENT_TERMINAL` says. */
export function agentJob(
  config: Config,
  server: RunningServer,
  quickstart: Quickstart,
  log: Pick<LogOptions, 'level' | 'format'>,
  terminal: string | undefined,
): AgentJob {
  const dir = dataPath(config, '')
  return {
    settings: {
      gateway_url: localEdgeUrl(config, server),
      agent_key_file: agentKeyPath(dir),
      agent_id: quickstart.agent_id,
      state_dir: join(dir, 'agent'),
      proxy: 'none',
      // So that the quickstart's first run needs nothing else.
      demo: true,
      ...(terminal !== undefined && { terminal }),
    },
    log,
    refusedPorts: [
      portOf(config.control, server.controlUrl),
      portOf(config.edge, server.edgeUrl),
      portOf(config.metrics, server.metricsUrl),
    ],
  }
}

/** Where it dials: past names and proxies that lead here from outside, unless the certificate needs the name. */
function localEdgeUrl({ edge }: Config, { edgeUrl }: RunningServer): string {
  if (edge.tls_cert_file !== undefined) return edgeUrl
  const isAny = edge.host === '0.0.0.0' || edge.host === '::'
  const host = isAny ? '127.0.0.1' : urlHost(edge.host)
  return `ws://${host}:${portOf(edge, edgeUrl)}`
}

/** The port listened on: the URL's may be that of a proxy in front, the setting's may be 0 for a free one. */
function portOf(setting: { port: number }, url: string): number {
  return setting.port || Number(new URL(url).port)
}
