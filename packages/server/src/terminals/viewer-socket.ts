import type { LinkStream } from '@cyberun/link'
import {
  decodeShellFrame,
  decodeViewerFrame,
  encodeViewerFrame,
  FieldError,
  type ResetCode,
  TerminalFrameReader,
} from '@cyberun/protocol'
import type { RawData, WebSocket } from 'ws'

/** Why a viewer's socket is closed: 4000 and the HTTP status that would say the same (RFC 6455, section 7.4.2). */
export const CLOSE = {
  ended: 1000,
  stopping: 1012,
  faulty: 4400,
  revoked: 4401,
  linkLost: 4503,
} as const

export interface ViewerSocketEvents {
  /** It has its shell. */
  onAttached(shell: string): void
  /** It typed. */
  onInput(): void
}

/** A socket and a stream that are joined. */
export interface ViewerRelay {
  /** Resolves, never rejects, when they are no longer. */
  readonly ended: Promise<void>
  /** Ends it because the right to look on has ended: the agent ends what was looked at. Harmless when it is over. */
  revoke(): void
}

/**
 * Joins a viewer's socket with its stream on the agent: whole frames both ways, each looked at, none kept. What one side does
 * not take holds the other one up: a stream by its window, a socket by not being read. From here on nobody else writes to
 * either or ends it.
 */
export function relayViewer(socket: WebSocket, stream: LinkStream, events: ViewerSocketEvents): ViewerRelay {
  const over = Promise.withResolvers<void>()
  const reader = new TerminalFrameReader()
  let isOver = false

  const finish = (code: number, reason: string, reset?: ResetCode): void => {
    if (isOver) return
    isOver = true
    if (reset) stream.reset(reset)
    else stream.end()
    socket.close(code, reason)
    over.resolve()
  }

  stream.listen({
    onData(chunk) {
      if (isOver) return
      // Held first: the frames are views of its bytes, which it may move.
      const release = chunk.hold()
      // Ours, until all frames are told of; then one for each that the socket has not taken.
      let holders = 1
      const letGo = (): void => {
        if (--holders === 0) release()
      }
      try {
        for (const frame of reader.push(chunk.bytes)) {
          const said = decodeShellFrame(frame)
          if (said?.type === 'attached') events.onAttached(said.attached.shell)
          holders += 1
          socket.send(frame, letGo)
        }
      } catch (error) {
        if (!(error instanceof FieldError)) throw error
        finish(CLOSE.linkLost, 'the agent sent what is no frame', 'internal')
      } finally {
        letGo()
      }
    },
    onEnd: () => finish(CLOSE.ended, 'the shell is over for this viewer'),
    onReset: (code) => finish(CLOSE.linkLost, REASON_OF_RESET[code] ?? 'the agent ended the connection'),
    onDrain: () => socket.resume(),
    onReclaim: () => socket.terminate(),
  })
  socket.on('message', (data: RawData, isBinary: boolean) => {
    if (isOver) return
    try {
      const bytes = bytesOf(data)
      const frame = isBinary ? decodeViewerFrame(bytes) : undefined
      if (!isBinary || frame?.type === 'attach' || frame?.type === 'end_scope') {
        finish(CLOSE.faulty, 'this message has no place here', 'cancelled')
      } else if (frame) {
        if (frame.type === 'input') events.onInput()
        if (!stream.write(bytes)) socket.pause()
      }
    } catch (error) {
      if (!(error instanceof FieldError)) throw error
      finish(CLOSE.faulty, error.message, 'cancelled')
    }
  })
  const onClose = (): void => finish(CLOSE.ended, '', 'cancelled')
  socket.on('close', onClose)
  if (socket.readyState !== socket.OPEN) onClose()
  return {
    ended: over.promise,
    revoke() {
      if (isOver) return
      stream.write(encodeViewerFrame({ type: 'hang_up' }))
      finish(CLOSE.revoked, 'the right to look at this shell has ended')
      // An agent that does not hang up is not waited for.
      socket.once('close', () => stream.reset('cancelled'))
    },
  }
}

const REASON_OF_RESET: Partial<Record<ResetCode, string>> = {
  link_lost: 'the agent has lost its connection',
  refused: 'the agent takes no terminal now',
  flow_control: 'more was typed than was taken',
}

/** A message of `ws` as bytes that nobody else writes to. */
export function bytesOf(data: RawData): Uint8Array {
  if (Array.isArray(data)) return Buffer.concat(data)
  return data instanceof ArrayBuffer ? new Uint8Array(data) : data
}
