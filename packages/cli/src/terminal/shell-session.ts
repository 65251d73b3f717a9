import { randomUUID } from 'node:crypto'
import {
  decodeShellFrame,
  encodeViewerFrame,
  type ShellFrame,
  TERMINAL_LIMITS,
  type TerminalSize,
  type ViewerFrame,
} from '@cyberun/protocol'
import { CliError } from '../errors.ts'
import { exitOfError } from '../exit-codes.ts'

/** Who asks, as the server's socket wants it. */
export interface Credential {
  bearer: string
  team_id?: string
}

export interface ShellSessionOptions {
  controlUrl: string
  agentId: string
  /** Joins this shell; a new one when absent. */
  shell: string | undefined
  /** Asked for at each connection: a token may have been renewed. */
  credential(): Promise<Credential>
  size: TerminalSize
  /** From [0, 1). */
  random(): number
  onOutput(bytes: Uint8Array): void
  /** Later output does not follow what was shown. */
  onReset(prefix: string): void
  /** There is no connection, and another is tried. `why`: what the server said of it. Told once until there is one. */
  onLost(why: string | undefined): void
  signal: AbortSignal
}

/** How it ended: with the shell, or by the viewer's leaving, who may come back. */
export type ShellEnd =
  | { kind: 'exited'; code: number | null; signal: string | null }
  | { kind: 'left'; shell: string | undefined }

export interface ShellSession {
  /** Typed bytes: each reaches the program once, over as many connections as it takes. False: too many wait already. */
  type(bytes: Uint8Array): boolean
  resize(size: TerminalSize): void
  /** Rejects with a `CliError` when trying again helps nobody. */
  readonly ended: Promise<ShellEnd>
}

const FIRST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 8_000
const PING_MS = 5_000
/** Typed bytes that may wait for a connection. */
const MOST_TYPED = 1024 * 1024

/** Looks at a shell until it ends, the viewer leaves (`signal`) or the server refuses for good. */
export function openShellSession(options: ShellSessionOptions): ShellSession {
  const viewer = randomUUID()
  const ended = Promise.withResolvers<ShellEnd>()
  let { shell, size } = options
  let socket: WebSocket | undefined
  let isAttached = false
  let wasAttached = false
  let isLossTold = false
  let isOver = false
  let isHeard = true
  let pauseMs = FIRST_PAUSE_MS
  /** Of the next byte of output. */
  let next: number | undefined
  let typed = Buffer.alloc(0)
  let confirmed = 0
  let sent = 0
  let retry: NodeJS.Timeout | undefined
  const pings = setInterval(ping, PING_MS)

  const send = (frame: ViewerFrame): void => {
    if (socket?.readyState === WebSocket.OPEN) socket.send(Uint8Array.from(encodeViewerFrame(frame)))
  }

  function finish(end: ShellEnd | Error): void {
    if (isOver) return
    isOver = true
    clearInterval(pings)
    clearTimeout(retry)
    socket?.close()
    if (end instanceof Error) ended.reject(end)
    else ended.resolve(end)
  }

  async function dial(): Promise<void> {
    const url = new URL(`/api/v1/agents/${encodeURIComponent(options.agentId)}/terminal`, options.controlUrl)
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
    const credential = await options.credential()
    if (isOver) return
    const made = new WebSocket(url)
    made.binaryType = 'arraybuffer'
    socket = made
    isHeard = true
    const opening = {
      ...{ ...credential, viewer, ...size },
      ...(shell !== undefined && { shell }),
      ...(next !== undefined && { position: next }),
    }
    made.addEventListener('open', () => made.send(JSON.stringify(opening)))
    made.addEventListener('message', ({ data }) => {
      if (socket !== made || isOver) return
      isHeard = true
      if (typeof data === 'string') refused(made, data)
      else if (data instanceof ArrayBuffer) take(decodeShellFrame(new Uint8Array(data)))
    })
    made.addEventListener('error', () => {}) // told as its close
    made.addEventListener('close', () => lost(made))
  }

  function take(frame: ShellFrame | undefined): void {
    switch (frame?.type) {
      case 'attached': {
        const { attached } = frame
        // A shell that has just begun has nothing to clear.
        if (attached.is_reset && (attached.position > 0 || next !== undefined || shell !== undefined)) {
          options.onReset(attached.prefix)
        }
        isAttached = true
        wasAttached = true
        isLossTold = false
        pauseMs = FIRST_PAUSE_MS
        shell = attached.shell
        next = attached.position
        received(attached.input)
        sent = confirmed
        sendTyped()
        return
      }
      case 'output':
        next = frame.position + frame.bytes.length
        options.onOutput(frame.bytes)
        send({ type: 'taken', position: next })
        return
      case 'received':
        received(frame.position)
        sendTyped()
        return
      case 'exited':
        finish({ kind: 'exited', code: frame.code, signal: frame.signal })
        return
      case 'refused':
        finish(new CliError('failed', frame.reason, frame.message))
        return
      case 'state':
      case 'pong':
      case undefined:
        return
    }
  }

  function received(position: number): void {
    const count = position - confirmed
    if (count <= 0) return
    typed = typed.subarray(count)
    confirmed = position
    sent = Math.max(sent, position)
  }

  function sendTyped(): void {
    if (!isAttached) return
    const end = confirmed + Math.min(typed.length, TERMINAL_LIMITS.inputWindowBytes)
    while (sent < end) {
      const from = sent - confirmed
      const bytes = typed.subarray(from, Math.min(from + TERMINAL_LIMITS.inputBytes, end - confirmed))
      send({ type: 'input', position: sent, bytes })
      sent += bytes.length
    }
  }

  function refused(from: WebSocket, text: string): void {
    const { status, error_code, error_message } = JSON.parse(text) as Record<string, unknown>
    if (status === 429 || status === 503 || (status === 409 && next !== undefined)) lost(from, String(error_message))
    else finish(new CliError(exitOfError(String(error_code)), String(error_code), String(error_message)))
  }

  /** `why`: what the server said, when it did. */
  function lost(from: WebSocket, why?: string): void {
    if (socket !== from || isOver) return
    socket = undefined
    from.close()
    if (!wasAttached && why === undefined) {
      finish(
        new CliError(
          'unreachable',
          'unreachable',
          `${options.controlUrl} opens no terminal: "cyberun doctor" finds out why`,
        ),
      )
      return
    }
    if (!isLossTold) options.onLost(why)
    isLossTold = true
    isAttached = false
    retry = setTimeout(() => dial().catch(finish), pauseMs * (0.5 + options.random() / 2))
    pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)
  }

  function ping(): void {
    if (!socket || !isAttached) return
    if (!isHeard) lost(socket)
    isHeard = false
    send({ type: 'ping', token: 1 })
  }

  options.signal.addEventListener('abort', () => finish({ kind: 'left', shell }), { once: true })
  dial().catch(finish)
  return {
    type(bytes) {
      if (typed.length + bytes.length > MOST_TYPED) return false
      typed = Buffer.concat([typed, bytes])
      sendTyped()
      return true
    },
    resize(wanted) {
      size = wanted
      if (isAttached) send({ type: 'resize', ...wanted })
    },
    ended: ended.promise,
  }
}
