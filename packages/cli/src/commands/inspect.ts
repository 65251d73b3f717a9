import { setTimeout as delay } from 'node:timers/promises'
import type { InspectedDetail, InspectedRequest } from '@cyberun/api'
import type { Client } from '@cyberun/api/client'
import { connect } from '../connect.ts'
import { type Context, printNote, printResult } from '../context.ts'
import { CliError } from '../errors.ts'
import { Followed } from '../inspect/followed.ts'
import { detailText, entryLine, entryTable } from '../inspect/text.ts'
import { onInterrupt } from '../interrupt.ts'
import { printable, printableJson } from '../text.ts'

export interface InspectOptions {
  bodies?: true
  off?: true
  follow?: true
  show?: number
  curl?: number
  replay?: number
}

/** One tunnel, in the words of the API's routes. */
interface TunnelParams {
  agentId: string
  sessionId: string
}

const LIST = 'GET /agents/{agentId}/tunnel/{sessionId}/inspector'
const POLL_MS = 500
/** The most that a page has. */
const PAGE = 100
/** Rows that a list shows, and a live table where the terminal does not say how many it has. */
const ROWS = 20
/** Lines of the terminal that a live table leaves free: its head, and one for the prompt. */
const FREE_ROWS = 3

/** `cyberun tunnel inspect`. Turns the inspector on where it is off, and shows what passes. */
export async function inspectTunnel(
  context: Context,
  agentId: string,
  session: string | undefined,
  options: InspectOptions,
): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const params = { agentId, sessionId: session ?? (await onlySession(client, agentId)) }
  if (options.off) await turnOff(context, client, params)
  else if (options.replay !== undefined) await replay(context, client, params, options.replay)
  else if (options.curl !== undefined) await printCurl(context, await detail(client, params, options.curl))
  else if (options.show !== undefined) {
    const shown = await detail(client, params, options.show)
    printResult(context, shown, () => detailText(shown))
  } else {
    await turnOn(context, client, params, options.bodies === true)
    await watch(context, client, params, options.follow === true)
  }
}

async function onlySession(client: Client, agentId: string): Promise<string> {
  const { session_list } = await client.call('GET /agents/{agentId}/tunnel', { params: { agentId } })
  const [only, ...others] = session_list.filter(({ tunnel_protocol }) => tunnel_protocol === 'http')
  if (only && others.length === 0) return only.session_id
  const message = only
    ? `several tunnels to ${agentId} are open: name one (cyberun tunnel list ${agentId})`
    : `no http tunnel to ${agentId} is open: cyberun tunnel open ${agentId} <port>`
  throw new CliError('usage', only ? 'ambiguous' : 'not_found', message)
}

async function turnOff(context: Context, client: Client, params: TunnelParams): Promise<void> {
  const body = { is_enabled: false }
  const state = await client.call('PUT /agents/{agentId}/tunnel/{sessionId}/inspector', { params, body })
  printResult(context, state, () => 'The inspector is off, and what it kept is forgotten.\n')
}

async function turnOn(context: Context, client: Client, params: TunnelParams, bodies: boolean): Promise<void> {
  const { is_enabled, is_body_kept } = await client.call(LIST, { params, query: { limit: 1 } })
  if (is_enabled && (is_body_kept || !bodies)) return
  const body = { is_enabled: true, is_body_kept: bodies }
  await client.call('PUT /agents/{agentId}/tunnel/{sessionId}/inspector', { params, body })
  const kept = bodies ? ', with the first 64 KiB of each body' : ''
  printNote(context, `The inspector is on: it keeps the last 1,000 requests from now on${kept}. --off turns it off.`)
}

async function replay(context: Context, client: Client, params: TunnelParams, number: number): Promise<void> {
  const name = 'POST /agents/{agentId}/tunnel/{sessionId}/inspector/{number}/replay'
  const answer = await client.call(name, { params: { ...params, number } })
  printResult(context, answer, () => {
    const came = answer.status === null ? 'got no answer' : `was answered ${answer.status}`
    const why = answer.failure === null ? '' : ` (${printable(answer.failure)})`
    return `Request ${number}, sent again as ${answer.number}, ${came}${why}.\n`
  })
}

function detail(client: Client, params: TunnelParams, number: number): Promise<InspectedDetail> {
  const name = 'GET /agents/{agentId}/tunnel/{sessionId}/inspector/{number}'
  return client.call(name, { params: { ...params, number } })
}

function printCurl(context: Context, { number, curl }: InspectedDetail): void {
  if (curl === null) throw new CliError('usage', 'conflict', `request ${number} is nothing that curl can send again`)
  // It is printable ASCII; its line breaks belong to it.
  printResult(context, { number, curl }, () => `${curl.split('\n').map(printable).join('\n')}\n`)
}

/** A live table on a terminal; else what is there, and with `follow` what comes. */
async function watch(context: Context, client: Client, params: TunnelParams, follow: boolean): Promise<void> {
  const newest = await client.call(LIST, { params, query: { limit: ROWS } })
  if (context.stdout.isTTY && !context.json) await liveTable(context, client, params, onInterrupt())
  else if (follow) await followLines(context, client, params, AbortSignal.any([onInterrupt(), context.unread]))
  else printResult(context, newest, () => newest.entry_list.map(entryLine).join(''))
}

async function liveTable(context: Context, client: Client, params: TunnelParams, stop: AbortSignal): Promise<void> {
  const { stdout } = context
  let drawn = 0
  while (!stop.aborted) {
    const rows = Math.max(1, Math.min(100, (stdout.rows ?? ROWS + FREE_ROWS) - FREE_ROWS))
    const { entry_list } = await client.call(LIST, { params, query: { limit: rows } })
    const text = entryTable(entry_list, (stdout.columns || 80) - 1)
    stdout.write(`${drawn > 0 ? `\x1b[${drawn}A` : ''}\r\x1b[J${text}`)
    drawn = text.split('\n').length - 1
    await pause(stop)
  }
}

async function followLines(context: Context, client: Client, params: TunnelParams, stop: AbortSignal): Promise<void> {
  const followed = new Followed()
  while (!stop.aborted) {
    const { entries, newest } = await allAfter(client, params, followed.after)
    for (const entry of followed.take(entries, newest)) {
      context.stdout.write(context.json ? `${printableJson(entry)}\n` : entryLine(entry))
    }
    await pause(stop)
  }
}

/** Everything behind a number: at most what the inspector keeps. */
async function allAfter(client: Client, params: TunnelParams, after: number) {
  const entries: InspectedRequest[] = []
  let newest = 0
  for (let at = after; ; at = entries.at(-1)?.number ?? at) {
    const { entry_list, last_number } = await client.call(LIST, { params, query: { after: at, limit: PAGE } })
    entries.push(...entry_list)
    newest = last_number
    if (entry_list.length < PAGE) return { entries, newest }
  }
}

async function pause(stop: AbortSignal): Promise<void> {
  await delay(POLL_MS, undefined, { signal: stop }).catch(() => {}) // told to stop
}
