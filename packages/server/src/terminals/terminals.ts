import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { ApiError } from '@cyberun/api'
import type { LinkStream } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import { encodeViewerFrame, StreamResetError, type TerminalAttach } from '@cyberun/protocol'
import { uuidv7 } from 'uuidv7'
import { type RawData, type WebSocket, WebSocketServer } from 'ws'
import type { Agents } from '../agents/types.ts'
import type { Bus, TunnelMessage } from '../bus.ts'
import type { Identity } from '../identity/identity.ts'
import { LiveCalls } from '../identity/live-calls.ts'
import { AgentUnreachableError, type Routing } from '../routing/routing.ts'
import { appendAudit } from '../store/audit.ts'
import type { Store } from '../store/store.ts'
import type { VisitorAddress } from '../visitor-address.ts'
import {
  Admission,
  type AdmissionParts,
  type Admitted,
  type Opening,
  parseOpening,
  rightOfKey,
  rightOfSignIn,
  scopeOfTunnel,
  scopeOfUser,
} from './admission.ts'
import { TERMINALS_LIMITS, type TerminalsLimits } from './limits.ts'
import { isOwnOrigin } from './own-origin.ts'
import { terminalPage } from './page.ts'
import { bytesOf, CLOSE, relayViewer } from './viewer-socket.ts'

export interface TerminalsOptions {
  identity: Pick<Identity, 'authenticate' | 'roleIn'>
  tunnels: AdmissionParts['tunnels']
  agents: { get(teamId: string, agentId: string): { offers_terminal: boolean } | undefined } & Pick<
    Agents,
    'withTerminals'
  >
  routing: Routing
  store: Store
  bus: Bus
  visitorAddress: VisitorAddress
  /** Where clients reach the control listener, when its operator has said so. */
  publicUrl: string | undefined
  /** Milliseconds since 1970. */
  now: () => number
  log: Log
  limits?: Partial<TerminalsLimits>
}

/** One socket, from its upgrade to its end. */
interface Viewer {
  readonly socket: WebSocket
  readonly agentId: string
  readonly address: string
  readonly bearer: string | undefined
  /** It has said who it is. */
  isKnown: boolean
  lastHeardAt: number
}

const PATH = /^\/api\/v1\/agents\/([A-Za-z0-9._-]{1,64})\/terminal(?:\?|$)/

/** Terminals for viewers: who may look at a shell, for how long, and the bytes between. */
export class Terminals {
  readonly #options: TerminalsOptions
  readonly #limits: TerminalsLimits
  readonly #admission: Admission
  readonly #liveCalls: LiveCalls
  readonly #server: WebSocketServer
  readonly #viewers = new Set<Viewer>()
  readonly #unsubscribe: readonly (() => void)[]
  readonly #timer: NodeJS.Timeout
  #isStopping = false

  constructor(options: TerminalsOptions) {
    this.#options = options
    this.#limits = { ...TERMINALS_LIMITS, ...options.limits }
    this.#liveCalls = new LiveCalls(options.bus)
    this.#admission = new Admission({ ...options, liveCalls: this.#liveCalls })
    const { bus } = options
    // After the live calls, so that who looks on is told why before the shell is gone.
    this.#unsubscribe = [
      bus.subscribe('credential.revoked', ({ credentialId }) => this.#endShells(rightOfKey(credentialId))),
      bus.subscribe('session.revoked', ({ familyId }) => this.#endShells(rightOfSignIn(familyId))),
      bus.subscribe('member.removed', ({ teamId, userId }) => this.#endShells(scopeOfUser(userId), teamId)),
      bus.subscribe('tunnel.closed', (tunnel) => this.#endShellsOf(tunnel)),
      bus.subscribe('tunnel.revoked', (tunnel) => this.#endShellsOf(tunnel)),
    ]
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: 64 * 1024 + 4,
      maxFragments: 64,
      maxBufferedChunks: 4_096,
    })
    this.#timer = setInterval(() => this.#sweep(), this.#limits.sweepMs)
    this.#timer.unref()
  }

  /** Viewers that look at a shell now. */
  get viewerCount(): number {
    return [...this.#viewers].filter(({ isKnown }) => isKnown).length
  }

  /** Whether this request is for a terminal's socket. */
  takesUpgrade({ url, headers }: Pick<IncomingMessage, 'url' | 'headers'>): boolean {
    return headers.upgrade?.toLowerCase() === 'websocket' && PATH.test(url ?? '')
  }

  /** A file of the page, by what follows `/terminal/`. */
  page(name: string): Response | undefined {
    return terminalPage(name)
  }

  /**
   * Takes the upgrade of a request that `takesUpgrade` is true of, whose `Host` has been checked. Owns the socket, unless it calls
   * `refuse`; never throws.
   */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, refuse: (error: ApiError) => void): void {
    const agentId = PATH.exec(request.url ?? '')?.[1] ?? ''
    const address = this.#options.visitorAddress.of(request)
    const problem = this.#problemOf(request, address)
    if (problem) {
      refuse(problem)
      return
    }
    this.#server.handleUpgrade(request, socket, head, (webSocket) => {
      const bearer = bearerOf(request)
      this.#serve({ socket: webSocket, agentId, address, bearer, isKnown: false, lastHeardAt: this.#options.now() })
    })
  }

  /** Closes every socket; shells go on, for viewers who come back to the next server. */
  stop(): void {
    this.#isStopping = true
    clearInterval(this.#timer)
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    for (const { socket } of this.#viewers) socket.close(CLOSE.stopping, 'the server is stopping')
    this.#liveCalls.stop()
  }

  #problemOf({ headers, method }: IncomingMessage, address: string): ApiError | undefined {
    if (this.#isStopping) return new ApiError('unavailable', 'This server is stopping; it will be back.')
    if (!isOwnOrigin(headers.origin, headers.host, this.#options.publicUrl)) {
      return new ApiError(
        'forbidden',
        'Terminals are opened by the page of this server and by programs, by no other page.',
      )
    }
    // Bytes of a body would become the first messages of the socket (RFC 9110, section 7.8).
    if (method !== 'GET' || headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined) {
      return new ApiError('invalid_request', 'request: an upgrade is a GET without a body')
    }
    const strangers = [...this.#viewers].filter((viewer) => !viewer.isKnown && viewer.address === address)
    if (this.#viewers.size < this.#limits.sockets && strangers.length < this.#limits.strangersPerAddress)
      return undefined
    return new ApiError('unavailable', 'Too many terminals are open: close some, or try again.', {
      retryAfterSeconds: 5,
    })
  }

  #serve(viewer: Viewer): void {
    const { socket } = viewer
    const late = setTimeout(() => socket.close(4408, 'the first message did not come in time'), this.#limits.openingMs)
    this.#viewers.add(viewer)
    // What is wrong with a socket is also told as its close.
    socket.on('error', () => {})
    socket.on('message', () => {
      viewer.lastHeardAt = this.#options.now()
    })
    socket.once('close', () => {
      clearTimeout(late)
      this.#viewers.delete(viewer)
    })
    socket.once('message', (data: RawData, isBinary: boolean) => {
      clearTimeout(late)
      // Read on once there is somebody to take what comes.
      socket.pause()
      this.#open(viewer, data, isBinary).catch((error: unknown) => this.#refuse(viewer, error))
    })
  }

  async #open(viewer: Viewer, data: RawData, isBinary: boolean): Promise<void> {
    const { socket, agentId, address, bearer } = viewer
    const bytes = bytesOf(data)
    if (isBinary || bytes.length > this.#limits.openingBytes) {
      throw new ApiError('invalid_request', 'message: the first one is a JSON object that says who asks')
    }
    const opening = parseOpening(Buffer.from(bytes).toString('utf8'))
    const admitted = await this.#admission.admit(opening, bearer, agentId, address)
    try {
      viewer.isKnown = true
      const stream = await this.#streamTo(admitted.teamId, agentId)
      if (admitted.ended.aborted || socket.readyState !== socket.OPEN) stream.reset('cancelled')
      else await this.#show(viewer, opening, admitted, stream)
    } finally {
      admitted.release()
    }
    if (admitted.ended.aborted) socket.close(CLOSE.revoked, 'the right to look at this shell has ended')
  }

  /** Throws `ApiError`: `not_found`, `forbidden`, `agent_offline`, `unavailable`. */
  async #streamTo(teamId: string, agentId: string): Promise<LinkStream> {
    const { agents, routing } = this.#options
    const agent = agents.get(teamId, agentId)
    const path = routing.pathTo(teamId, agentId)
    if (!agent || !path) {
      throw new ApiError('agent_offline', 'The agent is not connected: start it on its machine, then try again.')
    }
    if (!agent.offers_terminal) {
      throw new ApiError(
        'forbidden',
        'The owner of this agent allows no terminal: "terminal: true" in cyberun-agent.yaml would.',
      )
    }
    try {
      const late = AbortSignal.timeout(this.#limits.openMs)
      const stream = await path.open({ target: { kind: 'terminal' }, priority: 'terminal' }, undefined, late)
      const giveUp = () => stream.reset('cancelled')
      late.addEventListener('abort', giveUp, { once: true })
      await stream.accepted.finally(() => late.removeEventListener('abort', giveUp))
      return stream
    } catch (error) {
      if (!(error instanceof AgentUnreachableError || error instanceof StreamResetError)) throw error
      throw new ApiError('unavailable', 'The agent does not answer at present. It may be back within seconds.', {
        cause: error,
        retryAfterSeconds: 1,
      })
    }
  }

  /** From the attach to the end, with its two records. */
  async #show(viewer: Viewer, opening: Opening, admitted: Admitted, stream: LinkStream): Promise<void> {
    const { now, log } = this.#options
    const { socket, agentId, address } = viewer
    const { viewer: name, shell, position, cols, rows } = opening
    const { scope, right, tunnel } = admitted
    const began = now()
    const about = { agent_id: agentId, address, viewer: name }
    try {
      await this.#record(admitted, agentId, 'terminal.opened', about)
    } catch (error) {
      stream.reset('cancelled')
      throw error
    }
    const attach: TerminalAttach = {
      ...{ scope, viewer: name, cols, rows },
      ...(right !== undefined && { right }),
      ...(shell !== undefined && { shell }),
      ...(position !== undefined && { position }),
    }
    let shownShell = shell
    stream.write(encodeViewerFrame({ type: 'attach', attach }))
    const relay = relayViewer(socket, stream, {
      onAttached(id) {
        shownShell = id
      },
      onInput: () => tunnel?.noteInput(now()),
    })
    // What was looked at by this right; what it left behind is ended on the agent (`#endShells`).
    const revoke = (): void => {
      if (!this.#isStopping) relay.revoke()
    }
    admitted.ended.addEventListener('abort', revoke, { once: true })
    socket.resume()
    if (admitted.ended.aborted) revoke()
    log.info({ ...about, team_id: admitted.teamId, actor: admitted.actor }, 'terminal.opened')
    await relay.ended
    admitted.ended.removeEventListener('abort', revoke)
    const seconds = Math.round((now() - began) / 1000)
    const shown = { ...about, shell: shownShell ?? null, seconds }
    log.info({ ...shown, team_id: admitted.teamId, actor: admitted.actor }, 'terminal.closed')
    await this.#record(admitted, agentId, 'terminal.closed', shown)
  }

  async #record(
    { teamId, actor }: Admitted,
    subject: string,
    action: string,
    detail: Record<string, string | number | null>,
  ): Promise<void> {
    await appendAudit(this.#options.store, {
      ...{ id: uuidv7(), teamId, at: this.#options.now(), actor, action, subject, detail },
    })
  }

  /** Shells may be on any agent, also since before this server started: each is told, none is remembered. */
  #endShells(name: string, teamId?: string): void {
    for (const agent of this.#options.agents.withTerminals(teamId))
      void this.#endScope(agent.teamId, agent.agentId, name)
  }

  #endShellsOf({ sessionId, teamId, agentId }: TunnelMessage): void {
    if (this.#options.agents.get(teamId, agentId)?.offers_terminal !== true) return
    void this.#endScope(teamId, agentId, scopeOfTunnel(sessionId))
  }

  /** Has an agent end all shells of a scope, or of a right. Never rejects. */
  async #endScope(teamId: string, agentId: string, scope: string): Promise<void> {
    try {
      const stream = await this.#streamTo(teamId, agentId)
      stream.listen({ onData() {}, onEnd: () => stream.end(), onReset() {}, onDrain() {} })
      stream.write(encodeViewerFrame({ type: 'end_scope', scope }))
      stream.end()
    } catch (error) {
      // The agent ends them by itself after a while without viewers.
      this.#options.log.info({ error, agent_id: agentId }, 'terminal.shells_not_ended')
    }
  }

  /** Tells a viewer why there is no terminal: one message, and a close that says it once more. */
  #refuse({ socket, agentId, address }: Viewer, error: unknown): void {
    const shown =
      error instanceof ApiError
        ? error
        : new ApiError('internal', 'Something went wrong on the server. Its log says what.', { cause: error })
    const fields = { agent_id: agentId, address, error_code: shown.code }
    if (shown.code === 'internal') this.#options.log.error({ ...fields, error }, 'terminal.failed')
    else this.#options.log.info(fields, 'terminal.refused')
    const { code, message, status, retryAfterSeconds } = shown
    socket.send(
      JSON.stringify({
        ...{ status, error_code: code, error_message: message },
        ...(retryAfterSeconds !== undefined && { retry_after_seconds: Math.ceil(retryAfterSeconds) }),
      }),
    )
    socket.close(4000 + status, code)
    socket.resume()
  }

  #sweep(): void {
    const now = this.#options.now()
    for (const { socket, lastHeardAt } of this.#viewers) {
      if (now - lastHeardAt > this.#limits.silenceMs) socket.terminate()
    }
  }
}

function bearerOf({ headers }: IncomingMessage): string | undefined {
  const [scheme, secret, ...rest] = (headers.authorization ?? '').split(' ')
  return scheme?.toLowerCase() === 'bearer' && secret && rest.length === 0 ? secret : undefined
}
