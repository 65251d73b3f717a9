import { randomBytes } from 'node:crypto'
import type { Log } from '@cyberun/link/log'
import { uuidv7 } from 'uuidv7'
import { createAgents } from './agents/agents.ts'
import type { Agents } from './agents/types.ts'
import { createLocalBus } from './bus.ts'
import { type Config, dataPath } from './config.ts'
import { type Control, startControl } from './control/control.ts'
import { type CounterSource, createMetrics, type GaugeSource } from './control/metrics.ts'
import { createDispatch } from './dispatch/dispatch.ts'
import type { Dispatch } from './dispatch/types.ts'
import type { FileLimits } from './files/context.ts'
import { createFiles } from './files/files.ts'
import { openObjectStore } from './files/open-object-store.ts'
import { createIdentity } from './identity/create-identity.ts'
import type { FirstUser, Identity, KeepFirstUser } from './identity/identity.ts'
import { createRouting } from './routing/routing.ts'
import { openServerSecret } from './store/server-secret.ts'
import { openStore } from './store/store.ts'
import { Tasks } from './tasks/tasks.ts'
import { Terminals } from './terminals/terminals.ts'
import type { PathPages } from './tunnels/doors/door-search.ts'
import type { EdgeAddress } from './tunnels/doors/path-pages.ts'
import { PortDoors } from './tunnels/doors/port-doors.ts'
import { type Edge, startEdge } from './tunnels/edge/edge.ts'
import { Exposer } from './tunnels/exposer.ts'
import { Inspectors } from './tunnels/inspector/inspectors.ts'
import { tunnelUrl } from './tunnels/tunnel-view.ts'
import { Tunnels } from './tunnels/tunnels.ts'
import { createVisitorAddress } from './visitor-address.ts'
import { Workflows } from './workflows/workflows.ts'

export interface ServerDeps {
  log: Log
  /** Of this release, for the API's document. */
  version: string
  /** Told of the first user before it is stored. */
  keepFirstUser?: KeepFirstUser
}

export interface RunningServer {
  /** Where the API is, without a slash at the end. */
  readonly controlUrl: string
  /** Where agents dial and tunnels are. */
  readonly edgeUrl: string
  readonly metricsUrl: string
  /** The first user and team, on the first start only: the password is never shown again. */
  readonly firstUser: FirstUser | undefined
  readonly identity: Identity
  /** Takes nothing new, lets what is under way finish until `signal` aborts, then ends it. */
  stop(signal: AbortSignal): Promise<void>
}

/** A server that cannot start for a reason its operator can mend. `message` is one line that says how. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

const FIRST_USER_EMAIL = 'admin@localhost'
const HOUR_MS = 3600 * 1000

/**
 * Builds the parts of a server in order; stopping is the same list read backwards. What was started is stopped again
 * when a later part fails. Throws `StartError`, and `StoreOpenError` when the store cannot be used.
 */
export async function startServer(config: Config, deps: ServerDeps): Promise<RunningServer> {
  const { log, version, keepFirstUser } = deps
  const stops: ((signal: AbortSignal) => Promise<void>)[] = []
  let isStopping = false
  const stop = async (signal: AbortSignal) => {
    isStopping = true
    for (const stopPart of stops.splice(0).reverse()) {
      // With the database away some cannot write their last: that must not keep the others, and the process, running.
      await stopPart(signal).catch((error: unknown) => log.error({ error }, 'server.stop_failed'))
    }
  }
  try {
    const { now } = Date
    const bus = createLocalBus()
    const secret = openServerSecret(dataPath(config, 'secret.key'))
    const store = await openStore({ dataDir: dataPath(config, ''), databaseUrl: config.database.url, log })
    stops.push(() => store.close())

    const issuer = config.control.public_url ?? 'cyberun'
    const identity = await createIdentity({ store, bus, log, now, secret, issuer })
    stops.push(() => identity.stop())
    const workflows = new Workflows({ store, now })
    const firstUser = await identity.bootstrap(FIRST_USER_EMAIL, keepFirstUser)
    await workflows.seedDemo()

    const visitorAddress = createVisitorAddress(config.edge.trusted_proxies)
    const addressOf = visitorAddress.of
    const gatewayId = `gw-${randomBytes(4).toString('hex')}`
    const agents = createAgents({ identity, store, bus, log, now, random: Math.random, addressOf, gatewayId })
    stops.push((signal) => agents.stop(signal))
    const routing = createRouting(agents)

    const objects = await openObjectStore(dataPath(config, ''), config.objects.url)
    const limits = fileLimits(config)
    const files = createFiles({
      ...{ store, objects, bus, log, now, secret },
      newId: uuidv7,
      limits,
      baseUrl: () => control.url,
    })
    stops.push((signal) => files.stop(signal))
    const dispatch = createDispatch({ store, bus, log, now, agents, files, gatewayId })
    stops.push((signal) => dispatch.stop(signal))
    agents.serveTasks(dispatch)
    const tasks = new Tasks({
      ...{ store, bus, log, now, files, dispatch },
      tunnelUrl: (taskId) => tunnels.urlOfTask(taskId),
      eventRetentionMs: limits.outputRetentionMs,
    })
    stops.push(() => tasks.stop())

    const portDoors = new PortDoors({ range: config.edge.tunnel_port_range, host: config.edge.host, log })
    const tunnels = await Tunnels.start({
      ...{ store, bus, log, now, agents, routing, secret },
      portDoors,
      edge: () => ({ url: edge.url, ...addressSettings(config, portDoors) }),
    })
    stops.push(() => tunnels.stop())
    const inspectors = new Inspectors({
      ...{ store, log, agents, routing, tunnels },
      clock: { now, tick: () => performance.now() },
      tunnelUrl: ({ facts }) => tunnelUrl(facts, edge),
    })
    const edge: Edge = await startEdge({
      ...edgeSettings(config),
      portDoors,
      ...{ visitorAddress, agents, routing, tunnels, hop: gatewayId, log, now },
    }).catch(cannotListen('edge', config.edge))
    stops.push((signal) => edge.stop(signal))

    const terminals = new Terminals({
      ...{ identity, tunnels, agents, routing, store, bus, visitorAddress, now, log },
      publicUrl: config.control.public_url,
    })

    const exposer = new Exposer({ store, bus, log, now, dispatch, tunnels })
    stops.push(() => exposer.stop())

    const readiness = async () => {
      if (isStopping) return 'the server is stopping'
      await store.ping()
      return undefined
    }
    const measured = { agents, dispatch, tasks, tunnels, terminals, edge }
    const metrics = createMetrics(gauges(measured), counters(measured))
    const control: Control = await startControl({
      ...{ identity, bus, agents, workflows, tasks, files, tunnels, inspectors, metrics, readiness, terminals },
      ...{ visitorAddress, version, log },
      ...{ host: config.control.host, port: config.control.port, publicUrl: config.control.public_url },
      newRequestId: uuidv7,
      now: () => performance.now(),
    }).catch(cannotListen('control', config.control))
    stops.push((signal) => control.stop(signal))
    // Before the listener, which waits for the sockets that were upgraded on it.
    stops.push(async () => terminals.stop())
    const listening = await metrics.listen(config.metrics, readiness).catch(cannotListen('metrics', config.metrics))
    stops.push((signal) => listening.stop(signal))

    log.info({ control_url: control.url, edge_url: edge.url, gateway_id: gatewayId }, 'server.started')
    return {
      controlUrl: control.url,
      edgeUrl: edge.url,
      metricsUrl: `http://${config.metrics.host}:${listening.port}`,
      firstUser,
      identity,
      stop,
    }
  } catch (error) {
    await stop(AbortSignal.abort())
    throw error
  }
}

/** What the addresses of tunnels depend on beside where the edge is. */
function addressSettings({ edge }: Config, portDoors: PortDoors): Omit<EdgeAddress, 'url'> {
  return {
    tunnelDomain: edge.tunnel_domain,
    pathPages: pathPagesOf(edge),
    listenerScheme: edge.tls_cert_file === undefined ? 'http' : 'https',
    openPorts: portDoors,
    hasPortRange: edge.tunnel_port_range !== undefined,
  }
}

function pathPagesOf(edge: Config['edge']): PathPages {
  return edge.dangerously_allow_path_pages ? 'open' : edge.path_pages
}

function edgeSettings({ edge }: Config) {
  const { host, port, public_url, tunnel_domain, visitor_notice, tls_cert_file, tls_key_file } = edge
  return {
    visitorNotice: visitor_notice,
    ...{ host, port, tunnelDomain: tunnel_domain },
    pathPages: pathPagesOf(edge),
    ...(public_url !== undefined && { publicUrl: public_url }),
    ...(tls_cert_file !== undefined &&
      tls_key_file !== undefined && { tls: { certFile: tls_cert_file, keyFile: tls_key_file } }),
  }
}

function fileLimits({ files }: Config): FileLimits {
  return {
    maxInputBytes: files.max_input_bytes,
    maxArtifactBytes: files.max_artifact_bytes,
    inputRetentionMs: files.input_retention_hours * HOUR_MS,
    outputRetentionMs: files.output_retention_hours * HOUR_MS,
  }
}

interface MeasuredParts {
  agents: Agents
  dispatch: Dispatch
  tasks: Tasks
  tunnels: Tunnels
  terminals: Terminals
  edge: Edge
}

/** What is in force now, each read from the collection that holds it. */
function gauges({ agents, dispatch, tasks, tunnels, terminals, edge }: MeasuredParts): GaugeSource[] {
  return [
    { name: 'cyberun_agents_linked', help: 'Agents with a live link.', read: () => agents.counts.linked },
    {
      name: 'cyberun_agents_between',
      help: 'Agents awaited back after a lost link.',
      read: () => agents.counts.between,
    },
    { name: 'cyberun_streams_open', help: 'Streams open on all links.', read: () => agents.counts.streams },
    {
      name: 'cyberun_link_queued_bytes',
      help: 'Bytes waiting for links to take them.',
      read: () => agents.counts.queuedBytes,
    },
    {
      name: 'cyberun_attempts_held',
      help: 'Attempts of agents that are linked here.',
      read: () => dispatch.counts.attempts,
    },
    {
      name: 'cyberun_attempts_unstored_characters',
      help: 'Characters that agents reported and the store has not taken yet.',
      read: () => dispatch.counts.unstored,
    },
    {
      name: 'cyberun_tasks_waiting',
      help: 'Tasks that no agent has.',
      read: async () => (await tasks.load()).waiting,
    },
    {
      name: 'cyberun_tasks_oldest_wait_seconds',
      help: 'How long the oldest of them has been waiting.',
      read: async () => (await tasks.load()).oldestWaitMs / 1000,
    },
    {
      name: 'cyberun_tasks_held',
      help: 'Tasks that an agent has or was asked to take.',
      read: async () => (await tasks.load()).held,
    },
    { name: 'cyberun_event_streams_open', help: 'Streams of task events open.', read: () => tasks.feedCount },
    { name: 'cyberun_tunnels_open', help: 'Open tunnel sessions.', read: () => tunnels.openCount },
    {
      name: 'cyberun_terminal_viewers',
      help: 'Viewers who look at a shell of an agent.',
      read: () => terminals.viewerCount,
    },
    { name: 'cyberun_upstreams_open', help: 'Connections to services behind tunnels.', read: () => edge.upstreams },
  ]
}

/** What happened since the start, by kind. */
function counters({ agents, dispatch, edge }: MeasuredParts): CounterSource[] {
  return [
    {
      ...{ name: 'cyberun_links_closed_total', label: 'reason', tally: agents.counts.closed },
      help: 'Links of agents that ended.',
    },
    {
      ...{ name: 'cyberun_attempts_over_total', label: 'end', tally: dispatch.counts.over },
      help: 'Attempts that ended here.',
    },
    {
      ...{ name: 'cyberun_service_answers_total', label: 'status', tally: edge.answers.service },
      help: 'Answers of services behind tunnels, by the class of their status.',
    },
    {
      ...{ name: 'cyberun_edge_answers_total', label: 'status', tally: edge.answers.own },
      help: "Answers to visitors that are the edge's own: pages and refusals.",
    },
  ]
}

/** Turns the system's word on a port into one line for the operator. */
function cannotListen(section: 'control' | 'edge' | 'metrics', { host, port }: { host: string; port: number }) {
  return (cause: NodeJS.ErrnoException): never => {
    const setting = `${section}.port (CYBERUN_${section.toUpperCase()}_PORT)`
    switch (cause.code) {
      case 'EADDRINUSE':
        throw new StartError(`port ${port} is taken by another program: stop it, or set ${setting} to a free one`, {
          cause,
        })
      case 'EACCES':
        throw new StartError(`port ${port} needs rights that this user lacks: set ${setting} to one above 1023`, {
          cause,
        })
      case 'EADDRNOTAVAIL':
      case 'ENOTFOUND':
        throw new StartError(`${section}.host ${host} is no address of this machine`, { cause })
      default:
        throw new StartError(`the ${section} listener cannot start: ${cause.message}`, { cause })
    }
  }
}
