import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { ApiError, invalidRequest } from '@cyberun/api'
import type { Log } from '@cyberun/link/log'
import { getRequestListener, type HttpBindings, RequestError } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { type Context, Hono } from 'hono'
import type { Bus } from '../bus.ts'
import { LiveCalls } from '../identity/live-calls.ts'
import type { EventFeed } from '../tasks/task-feed.ts'
import { urlHost } from '../url-host.ts'
import type { VisitorAddress } from '../visitor-address.ts'
import { type Admitted, admit, admitCaller, recallCaller } from './admit.ts'
import { limitBodyTime } from './body-time.ts'
import { watchCall } from './call-end.ts'
import { docsPage } from './docs-page.ts'
import { EVENT_STREAM_HEADERS, sendEventStream } from './event-stream.ts'
import { createHandlers, type HandlerParts } from './handlers.ts'
import { healthAnswer, type Readiness, readinessAnswer } from './health.ts'
import { type Listening, listen } from './listening.ts'
import type { Metrics } from './metrics.ts'
import { describeApi } from './openapi.ts'
import { frontPage, pairPage } from './pages.ts'
import type { TerminalsPort } from './ports.ts'
import { beginResponse, createHeaderCheck } from './prologue.ts'
import { renderError, toApiError, writeAnswer, writeError, writeRawError } from './render.ts'
import { type ParsedRequest, parseRequest } from './request.ts'
import { methodsByPath, type RouteEntry, routeEntries } from './route-entries.ts'

export interface ControlOptions extends Omit<HandlerParts, 'verificationUri'> {
  bus: Bus
  metrics: Pick<Metrics, 'called'>
  readiness: Readiness
  terminals: TerminalsPort
  visitorAddress: VisitorAddress
  host: string
  port: number
  /** Where clients reach this listener; by default `http://<host>:<port bound>`. Its host is one we answer for. */
  publicUrl?: string | undefined
  version: string
  newRequestId(): string
  /** Monotonic milliseconds, to time calls by. */
  now(): number
  log: Log
}

export interface Control extends Listening {
  /** Where clients reach the API, without a slash at the end. */
  readonly url: string
}

/** A call that takes longer is answered with `timeout`. The longest waits for an agent to dial a port. */
const CALL_DEADLINE_MS = 30_000
/** How long the body of a call may take to arrive. */
const BODY_MS = 60_000
const BASE = '/api/v1'

/** Limits of the listener, in milliseconds and bytes. Idle connections outlive the 60 s that proxies keep theirs. */
const LISTENER = {
  requireHostHeader: false,
  headersTimeout: 10_000,
  // Bodies have their own limits: `BODY_MS` here, and as long as bytes keep coming at the file door.
  requestTimeout: 0,
  connectionsCheckingInterval: 1_000,
  keepAliveTimeout: 65_000,
  maxHeaderSize: 32 * 1024,
} as const

interface Env {
  Bindings: HttpBindings
}
type CallContext = Context<Env>

/** Serves the API, its documentation and its keys. Rejects when the port cannot be had. */
export async function startControl(options: ControlOptions): Promise<Control> {
  const { log } = options
  // Known once the port is; no call is answered before.
  let url = options.publicUrl ?? ''
  const liveCalls = new LiveCalls(options.bus)
  const fail = failInto(log, options.now)
  const app = buildApp({ ...options, liveCalls, fail }, () => url)
  const answer = getRequestListener(app.fetch as never, {
    overrideGlobalObjects: false,
    errorHandler: (error) =>
      error instanceof RequestError
        ? renderError(invalidRequest([{ path: 'target', message: 'is not a path' }]))
        : fail('without an id', error),
  })
  const checkHeaders = createHeaderCheck(ownNames(options))
  const begin = (incoming: IncomingMessage, outgoing: ServerResponse): ApiError | undefined => {
    beginResponse(incoming, outgoing, options.newRequestId)
    return checkHeaders(incoming)
  }
  const serve = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const refusal = begin(incoming, outgoing)
    if (refusal) writeError(outgoing, refusal)
    else if (!options.files.handleRequest(incoming, outgoing)) {
      limitBodyTime(incoming, BODY_MS, (error) => refuseBytes(error, incoming.socket, options.newRequestId()))
      if (incoming.headers.expect !== undefined) outgoing.writeContinue()
      void answer(incoming, outgoing)
    }
  }
  const { terminals } = options
  const shouldUpgradeCallback = (incoming: IncomingMessage): boolean => terminals.takesUpgrade(incoming)
  const server = createServer({ ...LISTENER, shouldUpgradeCallback }, serve)
  server.on('upgrade', (incoming: IncomingMessage, socket: Duplex, head: Buffer) => {
    // Its loss is nobody's failure until somebody has taken it.
    socket.on('error', () => {})
    const refuse = (error: ApiError): void => writeRawError(socket, error, options.newRequestId())
    const refusal = checkHeaders(incoming)
    if (refusal) refuse(refusal)
    else terminals.handleUpgrade(incoming, socket, head, refuse)
  })
  // Here rather than by Node, so that a refused upload is told before its bytes are sent.
  server.on('checkContinue', serve)
  // Node would drop what is beyond its default number without a word. `maxHeaderSize` bounds them.
  server.maxHeadersCount = 0
  server.on('checkExpectation', (incoming: IncomingMessage, outgoing: ServerResponse) => {
    writeError(
      outgoing,
      begin(incoming, outgoing) ?? invalidRequest([{ path: 'header.Expect', message: 'is not 100-continue' }]),
    )
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    refuseBytes(error, socket, options.newRequestId())
  })
  const listening = await listen(server, options)
  if (url === '') url = `http://${urlHost(LOOPBACK_OF[options.host] ?? options.host)}:${listening.port}`
  log.info({ host: options.host, port: listening.port }, 'control.listening')
  return {
    ...listening,
    url,
    stop(signal) {
      liveCalls.stop()
      return listening.stop(signal)
    },
  }
}

/** The host names in `Host` that mean this listener, besides those of the loopback. */
function ownNames({ publicUrl, host }: ControlOptions): string[] {
  const bound = host in LOOPBACK_OF ? [] : [urlHost(host)]
  return publicUrl === undefined ? bound : [...bound, new URL(publicUrl).hostname]
}

/** Addresses that mean all of a machine's, and are no name of it. */
const LOOPBACK_OF: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' }

interface AppParts extends ControlOptions {
  liveCalls: LiveCalls
  fail: Fail
}

/** Every route of the table, then what is not in it. */
function buildApp(options: AppParts, url: () => string): Hono<Env> {
  const app = new Hono<Env>()
  const handlers = createHandlers({ ...options, verificationUri: () => `${url()}/pair` })
  const document = describeApi(options.version)
  for (const entry of routeEntries) {
    const handler = handlers[entry.name] as (call: unknown) => unknown
    app.on(entry.method, honoPath(entry.path), (c) => serveCall(options, entry, handler, c))
  }
  app.get(`${BASE}/openapi.json`, (c) => c.json(document))
  app.get(`${BASE}/docs`, () => docsPage(document))
  app.get('/.well-known/jwks.json', (c) =>
    c.json(options.identity.jwks(), 200, { 'cache-control': 'public, max-age=300' }),
  )
  app.get('/', () => frontPage())
  app.get('/pair', () => pairPage())
  app.get('/terminal', (c) => options.terminals.page('') ?? c.notFound())
  app.get('/terminal/:file', (c) => options.terminals.page(c.req.param('file')) ?? c.notFound())
  app.get('/healthz', healthAnswer)
  app.get('/readyz', () => readinessAnswer(options.readiness))
  for (const [path, methods] of methodsByPath) app.all(honoPath(path), (c) => refuseMethod(c.req.method, methods))
  app.notFound(() => renderError(new ApiError('not_found', `There is no such address. ${BASE}/docs lists every call.`)))
  app.onError((error, c) => options.fail(requestIdOf(c), error))
  return app
}

/** `/agents/{agentId}` → `/api/v1/agents/:agentId`. */
function honoPath(path: string): string {
  return BASE + path.replace(/\{(\w+)\}/g, ':$1')
}

/** One call, from the head of its request to its answer. Never throws. */
async function serveCall(
  options: AppParts,
  entry: RouteEntry,
  handler: (call: unknown) => unknown,
  c: CallContext,
): Promise<Response> {
  const startedAt = options.now()
  const requestId = requestIdOf(c)
  const { incoming, outgoing } = c.env
  using end = watchCall(outgoing, CALL_DEADLINE_MS)
  let admitted: Admitted | undefined
  let response: Response
  try {
    const address = options.visitorAddress.of(incoming)
    let parsing: Promise<ParsedRequest> | undefined
    const handle = async (by: Admitted) => {
      admitted = by
      parsing ??= parseRequest(entry.spec, incoming, c.req.param())
      return { by, answer: await handler({ ...(await parsing), ...by, address, signal: end.signal }) }
    }
    const { spec } = entry
    const { identity } = options
    const admitAndHandle = async () => handle(await admit(spec, incoming, address, identity))
    const recalled = recallCaller(entry, incoming, identity)
    const { by, answer } = await (recalled
      ? admitCaller(spec, incoming, recalled, identity).then(handle).catch(unlessRefused(admitAndHandle))
      : admitAndHandle())
    response = entry.spec.eventStream
      ? await streamEvents(options, entry, c, by, answer as EventFeed | undefined)
      : sendAnswer(c, entry, answer)
  } catch (error) {
    // With nobody left to answer, whatever stopped the call is no failure.
    response = end.isHungUp
      ? renderError(new ApiError('timeout', 'The caller hung up.'))
      : options.fail(requestId, error)
  }
  const tookMs = options.now() - startedAt
  const status = response === RESPONSE_ALREADY_SENT ? outgoing.statusCode : response.status
  options.metrics.called(entry.name, status, tookMs / 1000)
  options.log.debug(
    {
      request_id: requestId,
      ...callFields(admitted),
      route: entry.name,
      status,
      took_ms: Math.round(tookMs),
    },
    'api.called',
  )
  return response
}

/** For a call admitted by memory: what is refused to it may be its caller's memory at fault, and nothing was done yet. */
function unlessRefused<T>(anew: () => Promise<T>): (error: unknown) => Promise<T> {
  return (error) => {
    if (error instanceof ApiError && error.code !== 'unavailable') return anew()
    throw error
  }
}

function sendAnswer(c: CallContext, { spec }: RouteEntry, answer: unknown): Response {
  writeAnswer(c.env.outgoing, spec, answer)
  return RESPONSE_ALREADY_SENT
}

/**
 * Starts to send the events and leaves that to go on by itself: the call's deadline is for its head. Takes the feed over.
 * 204 tells a browser's EventSource not to come back (WHATWG HTML, section 9.2.3).
 */
async function streamEvents(
  { liveCalls, visitorAddress, identity }: AppParts,
  { spec }: RouteEntry,
  c: CallContext,
  { caller, actor }: Admitted,
  feed: EventFeed | undefined,
): Promise<Response> {
  if (!feed) return new Response(null, { status: 204 })
  if (!caller || !actor) throw new Error('an event stream is about a team')
  const live = liveCalls.hold(caller, actor.teamId)
  const release = () => {
    live.release()
    feed.close()
  }
  try {
    // Once more, now that its end would be noticed: what let it in may have been revoked meanwhile.
    await admit(spec, c.env.incoming, visitorAddress.of(c.env.incoming), identity)
  } catch (error) {
    release()
    throw error
  }
  if (c.req.method === 'HEAD') {
    release()
    return new Response(null, { headers: EVENT_STREAM_HEADERS })
  }
  void sendEventStream(c.env.outgoing, feed, live.signal).finally(release)
  return RESPONSE_ALREADY_SENT
}

function callFields(admitted: Admitted | undefined): Record<string, string> {
  if (!admitted?.caller) return {}
  const { kind, userId } = admitted.caller
  return { credential_kind: kind, user_id: userId, ...(admitted.actor && { team_id: admitted.actor.teamId }) }
}

/** The prologue put it on the response. */
function requestIdOf(c: CallContext): string {
  return String(c.env.outgoing.getHeader('x-request-id'))
}

/** Of the many calls that are refused while the store cannot be used, one is logged so often. */
const UNAVAILABLE_EVERY_MS = 10_000

type Fail = (requestId: string, error: unknown) => Response

/** Makes the answer for whatever was thrown; what callers are not told of its story goes to the log. */
function failInto(log: Log, now: () => number): Fail {
  let toldAt = Number.NEGATIVE_INFINITY
  return (requestId, error) => {
    const shown = toApiError(error, requestId)
    if (shown.code === 'internal') log.error({ request_id: requestId, error: shown.cause ?? shown }, 'api.failed')
    if (shown.code === 'unavailable' && shown.cause !== undefined && now() - toldAt >= UNAVAILABLE_EVERY_MS) {
      toldAt = now()
      log.warn({ request_id: requestId, error: shown.cause }, 'api.unavailable')
    }
    return renderError(shown)
  }
}

function refuseMethod(method: string, allowed: readonly string[]): Response {
  const response = renderError(
    new ApiError('method_not_allowed', `${method} is not for this address; it takes ${allowed.join(', ')}.`),
  )
  response.headers.set('allow', allowed.join(', '))
  return response
}

/** What Node's parser could not read, with the status that says why. */
const PARSER_STATUS: Readonly<Record<string, number>> = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 }

function refuseBytes(error: NodeJS.ErrnoException, socket: Duplex, requestId: string): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  writeRawError(
    socket,
    invalidRequest([{ path: 'request', message: 'is not well-formed HTTP/1.1' }]),
    requestId,
    PARSER_STATUS[error.code ?? ''],
  )
}
