import { createLog } from '@cyberun/link/log'
import { parseConfig, startServer } from '@cyberun/server'
import { answerParent } from '../child.ts'
import { openSockets, settledBytes } from './resources.ts'

/** A real server in its own process, on a fresh data directory and ports of the system's choice. */
export interface ServerVerbs {
  start(order: ServerOrder): Promise<StartedServer>
  settledBytes(nothing: null): Promise<number>
  openSockets(nothing: null): number
}

export interface ServerOrder {
  dataDir: string
  logLevel: 'debug' | 'warn'
  /** A PostgreSQL database to use instead of a file in `dataDir`. */
  databaseUrl?: string
}

export interface StartedServer {
  edgePort: number
  /** Where the API is, and the first user. */
  control: { controlUrl: string; emailAddress: string; userPassword: string; teamId: string }
}

answerParent<ServerVerbs>({
  async start({ dataDir, logLevel, databaseUrl }) {
    const config = parseConfig({
      data: { dir: dataDir },
      control: { port: 0 },
      edge: { port: 0 },
      metrics: { port: 0 },
      ...(databaseUrl !== undefined && { database: { url: databaseUrl } }),
    })
    const log = createLog({ level: logLevel, format: 'json' })
    const { controlUrl, edgeUrl, firstUser } = await startServer(config, { log, version: '0.0.0-test' })
    if (firstUser === undefined) throw new Error(`${dataDir} already has users`)
    const { emailAddress, userPassword, teamId } = firstUser
    return { edgePort: Number(new URL(edgeUrl).port), control: { controlUrl, emailAddress, userPassword, teamId } }
  },
  settledBytes,
  openSockets,
})
