import { request as httpRequest, type IncomingMessage } from 'node:http'
import { ClientError } from '@cyberun/api/client'
import { connect } from '../connect.ts'
import type { Context } from '../context.ts'
import { CliError } from '../errors.ts'
import { networkSteps, openConnection, type Route } from './network.ts'
import { Finding, orLate, Skipped, type Step } from './steps.ts'

/** The way to the server's API: down to whether what answers is Cyberun and takes our credentials. */
export function apiSteps(context: Context, route: Route): Step[] {
  return [
    ...networkSteps(route),
    { layer: 'http', run: (signal) => checkHttp(route, signal) },
    { layer: 'key', run: (signal) => checkAccount(context, route, signal) },
  ]
}

/** A call that every Cyberun server refuses in its own words when no credentials come with it. */
const PROBE_PATH = '/api/v1/users/me'
const NOT_OURS = 'check the address: it must be the server’s API (port 8787 by default), not its edge'

async function checkHttp(route: Route, signal: AbortSignal): Promise<string> {
  const socket = await openConnection(route, signal)
  const late = () => new Finding('the server does not answer HTTP', NOT_OURS)
  try {
    const response = await orLate(get(route.url, socket), signal, late)
    if (response.statusCode === 421) {
      const remedy = `set control.public_url on the server to ${route.url.origin}`
      throw new Finding(`the server does not go by the name ${route.url.hostname} (421)`, remedy)
    }
    if (response.statusCode !== 401 || response.headers['x-request-id'] === undefined) {
      throw new Finding(`what answers is no Cyberun API (status ${response.statusCode})`, NOT_OURS)
    }
    return 'a Cyberun API answers'
  } finally {
    socket.destroy()
  }
}

function get(url: URL, socket: Awaited<ReturnType<typeof openConnection>>): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = { host: url.host, accept: 'application/json', connection: 'close' }
    const path = `${url.pathname.replace(/\/$/, '')}${PROBE_PATH}`
    const sent = httpRequest({ createConnection: () => socket, path, headers })
    sent.on('response', resolve)
    sent.on('error', (error) => reject(new Finding(`what answers is no HTTP (${error.message})`, NOT_OURS)))
    sent.end()
  })
}

async function checkAccount(context: Context, route: Route, signal: AbortSignal): Promise<string | Skipped> {
  try {
    const { account, client } = await connect(context, 'key')
    if (new URL(account.controlUrl).origin !== route.url.origin) return new Skipped('not signed in to this server')
    await client.call('GET /agents', { query: { per_page: 1 } }, signal)
    return `the server takes the credentials of ${account.source}`
  } catch (error) {
    if (error instanceof CliError && error.code === 'signed_out') return new Skipped('not signed in')
    if (error instanceof CliError) throw new Finding(error.message, 'sign in again with "cyberun login"')
    if (!(error instanceof ClientError)) throw error
    throw new Finding(error.message, 'sign in again with "cyberun login", or make a new key')
  }
}
