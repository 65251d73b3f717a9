import { createLog } from '@cyberun/link/log'
import { parseConfig, type RunningServer, startServer } from '@cyberun/server'
import { answerParent } from '../child.ts'
import { freePort } from '../free-port.ts'
import { openSockets, settledBytes } from './resources.ts'

/** A real server in its own process, on a fresh data directory and free ports. */
export interface ServerVerbs {
  start(order: ServerOrder): Promise<StartedServer>
  /** Goes on with the data of an earlier process. */
  startAgain(order: ServerOrder): Promise<void>
  settledBytes(nothing: null): Promise<number>
  openSockets(nothing: null): number
}

export interface ServerOrder {
  dataDir: string
  logLevel: 'debug' | 'info' | 'warn'
  /** A PostgreSQL database to use instead of a file in `dataDir`. */
  databaseUrl?: string
  /** Those that an earlier process of the same data had: its agents and clients find this one there. */
  ports?: { control: number; edge: number }
}

export interface StartedServer {
  edgePort: number
  /** Where the API is, and the first user. */
  control: { controlUrl: string; emailAddress: string; userPassword: string; teamId: string }
}

async function launch({ dataDir, logLevel, databaseUrl, ports }: ServerOrder): Promise<RunningServer> {
  // Ports that are free again when this process has ended, should another one go on with its data.
  const { control, edge } = ports ?? { control: await freePort(), edge: await freePort() }
  const config = parseConfig({
    data: { dir: dataDir },
    control: { port: control },
    edge: { port: edge },
    metrics: { port: 0 },
    ...(databaseUrl !== undefined && { database: { url: databaseUrl } }),
  })
  const log = createLog({ level: logLevel, format: 'json' })
  return startServer(config, { log, version: '0.0.0-test' })
}

answerParent<ServerVerbs>({
  async start(order) {
    const { controlUrl, edgeUrl, firstUser } = await launch(order)
    if (firstUser === undefined) throw new Error(`${order.dataDir} already has users`)
    const { emailAddress, userPassword, teamId } = firstUser
    return { edgePort: Number(new URL(edgeUrl).port), control: { controlUrl, emailAddress, userPassword, teamId } }
  },
  async startAgain(order) {
    await launch(order)
  },
  settledBytes,
  openSockets,
})
