import { networkInterfaces } from 'node:os'
import { dialLink, type Link } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import type { SystemStats } from '@cyberun/protocol'
import type { AgentConfig } from './config.ts'
import { learnMachine, type MachineFacts } from './facts.ts'
import { agentHello } from './hello.ts'
import { type AgentExit, type AgentState, keepLinked } from './keep-linked.ts'
import { type MachineKey, openMachineKey } from './machine-key.ts'
import { watchTunnelPorts } from './port-watch.ts'
import { describePortRules, type PortRules } from './ports.ts'
import { type Env, isLoopbackHost } from './proxy.ts'
import { createTargets, type Targets } from './targets.ts'
import { startTasks, type Tasks } from './tasks/tasks.ts'
import { startTerminals, type Terminals } from './terminal/terminals.ts'
import { AGENT_VERSION } from './version.ts'
import { addressesOf, type Disturbance, watchMachine } from './wake.ts'

export interface AgentDeps {
  log: Log
  /** Ends the run: links are closed and `runAgent` resolves with `stopped`. */
  signal: AbortSignal
  /**
   * Where `CYBERUN_AGENT_TUNNEL_PORTS` is looked up when the settings file changes, and what the programs of tasks get a
   * few variables of.
   */
  env?: Env
  /** Ports that tunnels never reach, whatever `tunnel_ports` says: those of the server when it runs on this machine. */
  refusedPorts?: readonly number[]
  onState?: (state: AgentState) => void
  /** Monotonic milliseconds. */
  now?: () => number
  /** From [0, 1). */
  random?: () => number
  /** The program that tells about NVIDIA GPUs. */
  nvidiaSmi?: string
}

/**
 * Runs an agent until `deps.signal` aborts or dialling again would help nobody. Throws `MachineKeyError` when the state
 * directory cannot be used. An unreachable gateway is dialled for ever.
 */
export async function runAgent(config: AgentConfig, deps: AgentDeps): Promise<AgentExit> {
  const { log, signal, now = () => performance.now(), random = Math.random } = deps
  // What this function starts ends with it, whichever way it ends.
  const own = new AbortController()
  const until = AbortSignal.any([signal, own.signal])
  try {
    const machine = await openMachineKey(config.stateDir)
    announce(config, log)
    const facts = await learnMachine(
      { ownLabels: config.labels, nvidiaSmi: deps.nvidiaSmi ?? 'nvidia-smi', osType: process.platform },
      log,
      until,
    )
    const refused = new Set([...(deps.refusedPorts ?? []), ...portOfLocalGateway(config.gatewayUrl)])
    let tunnelPorts = config.tunnelPorts
    await using started = new AsyncDisposableStack()
    const tasks = await startTasks(config, {
      ...{ log, env: deps.env ?? {}, now, signal: until },
      tunnelPorts: () => tunnelPorts,
    })
    started.defer(() => tasks.stop())
    const terminals = await startTerminals({
      settings: config.terminal,
      stateDir: config.stateDir,
      env: deps.env ?? {},
      now,
      log,
    })
    started.defer(() => terminals.stop())
    if (signal.aborted) return { kind: 'stopped' }
    const targets = createTargets(config.tunnelPorts, refused, tasks.onStream, terminals.onStream, log)
    if (config.file !== undefined) {
      const allow = (rules: PortRules): void => {
        tunnelPorts = rules
        targets.allow(rules)
      }
      watchTunnelPorts(config.file, deps.env ?? {}, config.tunnelPorts, allow, log, until)
    }
    // What still runs is told to the server before its link goes.
    const leave = new AbortController()
    const stopThenLeave = (): void => {
      // What fails is told by the same `stop` as all this is disposed of.
      void Promise.allSettled([tasks.stop(), terminals.stop()]).then(() => leave.abort())
    }
    signal.addEventListener('abort', stopThenLeave, { once: true })
    const saidLabels = new WeakMap<Link, readonly string[]>()
    const statsNow = (): SystemStats => ({ ...facts.systemStats(), comfyui_version: tasks.comfyuiVersion() })
    return await keepLinked({
      dial: (dialSignal) =>
        dialGateway(config, { machine, statsNow, saidLabels, facts, tasks, terminals, targets, log }, dialSignal),
      machine: {
        systemStats() {
          void facts.refresh(now())
          return statsNow()
        },
        tools: tasks.health,
        freeSlots: tasks.freeSlots,
        inventory: tasks.inventory,
        onChange: tasks.onChange,
      },
      onLink: (link) => tasks.useLink(link, saidLabels.get(link) ?? []),
      onDisturbance: disturbances(until),
      onState: deps.onState ?? (() => {}),
      log,
      signal: leave.signal,
      now,
      random,
    })
  } finally {
    own.abort()
  }
}

function announce(config: AgentConfig, log: Log): void {
  log.info(
    {
      agent_id: config.agentId,
      agent_version: AGENT_VERSION,
      gateway_url: config.gatewayUrl.origin + config.gatewayUrl.pathname,
      tunnel_ports: describePortRules(config.tunnelPorts),
      ...(config.proxy && { proxy: config.proxy.host }),
    },
    'agent.started',
  )
  for (const hint of config.warnings) log.warn({ hint }, 'agent.settings')
}

/** What a link is dialled with. */
interface Dialled {
  readonly machine: MachineKey
  readonly facts: MachineFacts
  statsNow(): SystemStats
  /** The labels of its tools that each link's hello said. */
  readonly saidLabels: WeakMap<Link, readonly string[]>
  readonly tasks: Tasks
  readonly terminals: Terminals
  readonly targets: Targets
  readonly log: Log
}

async function dialGateway(config: AgentConfig, parts: Dialled, signal: AbortSignal): Promise<Link> {
  const { machine, facts, statsNow, saidLabels, tasks, terminals, targets, log } = parts
  let said: readonly string[] = []
  const link = await dialLink({
    url: config.gatewayUrl,
    headers: { authorization: `Bearer ${config.agentKey}` },
    hello(challenge) {
      said = tasks.labels()
      const about = {
        agentId: config.agentId,
        labels: facts.labels(),
        toolLabels: said,
        systemStats: statsNow(),
        tools: tasks.offers(),
        slots: config.tools.slots,
        runningTasks: tasks.attempts(),
        terminal: terminals.isOffered,
      }
      return agentHello(machine, about, challenge)
    },
    onStream: targets.onStream,
    ...(config.proxy && { proxy: config.proxy }),
    ...(config.ca !== undefined && { ca: config.ca }),
    signal,
    log,
  })
  saidLabels.set(link, said)
  return link
}

/** A tunnel to our own server's edge would be a loop, when that server is on this machine. */
function portOfLocalGateway(gateway: URL): number[] {
  const here = Object.values(networkInterfaces()).flatMap((addresses) => addresses?.map(({ address }) => address) ?? [])
  const host = gateway.hostname.replace(/^\[|\]$/g, '')
  if (!isLoopbackHost(gateway.hostname) && !here.includes(host)) return []
  return [Number(gateway.port || (gateway.protocol === 'wss:' ? 443 : 80))]
}

/** One watch of the machine for everyone who wants to know of disturbances. */
function disturbances(signal: AbortSignal): (tell: (what: Disturbance) => void) => () => void {
  const listeners = new Set<(what: Disturbance) => void>()
  let addresses = ''
  const glance = () => {
    try {
      addresses = addressesOf(networkInterfaces())
    } catch {
      // The system does not tell now, for want of a descriptor say: as far as we know, nothing has changed.
    }
    return { wallMs: Date.now(), addresses }
  }
  const tellAll = (what: Disturbance): void => {
    for (const listener of [...listeners]) listener(what)
  }
  watchMachine(glance, tellAll, signal)
  return (tell) => {
    listeners.add(tell)
    return () => void listeners.delete(tell)
  }
}
