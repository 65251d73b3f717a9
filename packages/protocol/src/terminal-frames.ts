import { FieldError, jsonObject, oneOf, optionalText, prose, text, whole } from './fields.ts'
import type { JsonObject } from './model.ts'
import { utf8Decode, utf8Encode } from './utf8.ts'

/**
 * The frames of a stream of kind `terminal` (docs/protocol.md, "Terminals"): one viewer of one shell. The same frames, one
 * a message, are what a browser speaks with the server. A header of four bytes, type and length, is in front of each.
 */

export const TERMINAL_LIMITS = {
  /** Payload of one frame. */
  payloadBytes: 64 * 1024,
  /** Typed bytes in one frame. */
  inputBytes: 16 * 1024,
  /** Typed bytes that the shell has not taken yet. */
  inputWindowBytes: 64 * 1024,
  /** Output that a viewer has not taken yet. */
  outputWindowBytes: 256 * 1024,
  /** What a terminal answers by itself. */
  reportBytes: 32,
  cols: 1_000,
  rows: 500,
  idCharacters: 64,
  messageCharacters: 400,
  /** Escape sequences that restore what output beyond the ring had set. */
  prefixCharacters: 4_096,
} as const

const HEADER_BYTES = 4
const POSITION_BYTES = 8

/** How large a terminal is, in characters. */
export interface TerminalSize {
  cols: number
  rows: number
}

/** What a viewer asks for first. Without `shell`: a new one. */
export interface TerminalAttach extends TerminalSize {
  /** Who may see the shell: the server's word for the right that the viewer came with. A shell is seen by its own scope only. */
  scope: string
  /** The server's word for the key or sign-in that the viewer came with. A shell ends with the one that started it. */
  right?: string
  shell?: string
  /** Names the viewer across its connections, so that nothing it typed counts twice. */
  viewer: string
  /** The next byte of output that it lacks; absent: it has nothing. */
  position?: number
}

/** How a viewer stands with its shell: the answer to `attach`, and again when it fell behind further than is kept. */
export interface TerminalAttached extends TerminalSize {
  shell: string
  /** Of the next byte of output that comes. */
  position: number
  /** Questions in output before this position have been answered by a viewer, or nobody waits any more. */
  answer_from: number
  /** How many bytes of this viewer's input were taken. */
  input: number
  /** Clear the screen first, then write `prefix`: what comes does not follow what the viewer has. */
  is_reset: boolean
  prefix: string
}

export const TERMINAL_REFUSALS = ['unknown_shell', 'too_many', 'failed'] as const
export type TerminalRefusal = (typeof TERMINAL_REFUSALS)[number]

/** From a viewer to its shell. */
export type ViewerFrame =
  | { type: 'attach'; attach: TerminalAttach }
  /** `position`: how many bytes this viewer typed before these. */
  | { type: 'input'; position: number; bytes: Uint8Array }
  /** What the viewer's terminal answered to a question in the output; taken from the viewer that leads only. */
  | { type: 'report'; bytes: Uint8Array }
  | ({ type: 'resize' } & TerminalSize)
  /** Output before `position` is on the screen. */
  | { type: 'taken'; position: number }
  /** Ends the shell. */
  | { type: 'hang_up' }
  | { type: 'ping'; token: number }
  /** In the place of `attach`: ends every shell that this scope sees, or that was started by the right of this name. */
  | { type: 'end_scope'; scope: string }

/** From a shell to its viewer. */
export type ShellFrame =
  | { type: 'attached'; attached: TerminalAttached }
  | { type: 'output'; position: number; bytes: Uint8Array }
  /** The size in force, and how many look on. */
  | ({ type: 'state'; viewers: number } & TerminalSize)
  /** How many bytes of this viewer's input were taken. */
  | { type: 'received'; position: number }
  | { type: 'exited'; code: number | null; signal: string | null }
  | { type: 'refused'; reason: TerminalRefusal; message: string }
  | { type: 'pong'; token: number }

const VIEWER_TYPES = {
  attach: 1,
  input: 2,
  report: 3,
  resize: 4,
  taken: 5,
  hang_up: 6,
  ping: 7,
  end_scope: 8,
} as const satisfies Record<ViewerFrame['type'], number>
const SHELL_TYPES = {
  attached: 65,
  output: 66,
  state: 67,
  received: 68,
  exited: 69,
  refused: 70,
  pong: 71,
} as const satisfies Record<ShellFrame['type'], number>

export function encodeViewerFrame(frame: ViewerFrame): Uint8Array {
  const type = VIEWER_TYPES[frame.type]
  switch (frame.type) {
    case 'attach':
      return jsonFrame(type, frame.attach)
    case 'input':
      return positionFrame(type, frame.position, frame.bytes)
    case 'report':
      return bytesFrame(type, frame.bytes)
    case 'resize':
      return sizeFrame(type, frame)
    case 'taken':
      return positionFrame(type, frame.position)
    case 'hang_up':
      return bytesFrame(type, new Uint8Array(0))
    case 'ping':
      return tokenFrame(type, frame.token)
    case 'end_scope':
      return jsonFrame(type, { scope: frame.scope })
  }
}

export function encodeShellFrame(frame: ShellFrame): Uint8Array {
  const type = SHELL_TYPES[frame.type]
  switch (frame.type) {
    case 'attached':
      return jsonFrame(type, frame.attached)
    case 'output':
      return positionFrame(type, frame.position, frame.bytes)
    case 'state':
      return jsonFrame(type, { cols: frame.cols, rows: frame.rows, viewers: frame.viewers })
    case 'received':
      return positionFrame(type, frame.position)
    case 'exited':
      return jsonFrame(type, { code: frame.code, signal: frame.signal })
    case 'refused':
      return jsonFrame(type, { reason: frame.reason, message: frame.message })
    case 'pong':
      return tokenFrame(type, frame.token)
  }
}

/** Reads one frame of a viewer; undefined for a type of a later version. Throws `FieldError`. */
export function decodeViewerFrame(frame: Uint8Array): ViewerFrame | undefined {
  const { type, payload, view } = openFrame(frame)
  switch (type) {
    case VIEWER_TYPES.attach:
      return { type: 'attach', attach: parseAttach(jsonPayload(payload)) }
    case VIEWER_TYPES.input: {
      const bytes = bytesOf(
        'input',
        payload.subarray(Math.min(POSITION_BYTES, payload.length)),
        TERMINAL_LIMITS.inputBytes,
      )
      return { type: 'input', position: readPosition(view), bytes }
    }
    case VIEWER_TYPES.report:
      return { type: 'report', bytes: bytesOf('report', payload, TERMINAL_LIMITS.reportBytes) }
    case VIEWER_TYPES.resize:
      if (payload.length < 4) throw new FieldError('resize', 'two numbers of 16 bits')
      return { type: 'resize', ...parseSize({ cols: view.getUint16(0), rows: view.getUint16(2) }) }
    case VIEWER_TYPES.taken:
      return { type: 'taken', position: readPosition(view) }
    case VIEWER_TYPES.hang_up:
      return { type: 'hang_up' }
    case VIEWER_TYPES.ping:
      return { type: 'ping', token: readToken(view) }
    case VIEWER_TYPES.end_scope:
      return { type: 'end_scope', scope: idOf('scope', jsonPayload(payload)['scope']) }
    default:
      return undefined
  }
}

/** Reads one frame of a shell; undefined for a type of a later version. Throws `FieldError`. */
export function decodeShellFrame(frame: Uint8Array): ShellFrame | undefined {
  const { type, payload, view } = openFrame(frame)
  switch (type) {
    case SHELL_TYPES.attached:
      return { type: 'attached', attached: parseAttached(jsonPayload(payload)) }
    case SHELL_TYPES.output:
      return { type: 'output', position: readPosition(view), bytes: payload.subarray(POSITION_BYTES) }
    case SHELL_TYPES.state: {
      const fields = jsonPayload(payload)
      return { type: 'state', ...parseSize(fields), viewers: whole('viewers', fields['viewers'], 0, 1_000) }
    }
    case SHELL_TYPES.received:
      return { type: 'received', position: readPosition(view) }
    case SHELL_TYPES.exited: {
      const { code, signal } = jsonPayload(payload)
      return {
        type: 'exited',
        code: code === null ? null : whole('code', code, 0, 255),
        signal: optionalText('signal', signal, TERMINAL_LIMITS.idCharacters),
      }
    }
    case SHELL_TYPES.refused: {
      const { reason, message } = jsonPayload(payload)
      return {
        type: 'refused',
        reason: oneOf('reason', reason, TERMINAL_REFUSALS),
        message: prose('message', message, TERMINAL_LIMITS.messageCharacters),
      }
    }
    case SHELL_TYPES.pong:
      return { type: 'pong', token: readToken(view) }
    default:
      return undefined
  }
}

/** Cuts the bytes of a stream into whole frames. What is kept of one that has not arrived yet is bounded by its limit. */
export class TerminalFrameReader {
  #kept: Uint8Array = new Uint8Array(0)

  /** The frames that are whole now, each with its header. They may share `bytes`. Throws `FieldError` for one too long. */
  push(bytes: Uint8Array): Uint8Array[] {
    let rest = this.#kept.length === 0 ? bytes : joined(this.#kept, bytes)
    const frames: Uint8Array[] = []
    for (;;) {
      const length = frameLength(rest)
      if (length === undefined || rest.length < length) break
      frames.push(rest.subarray(0, length))
      rest = rest.subarray(length)
    }
    this.#kept = Uint8Array.from(rest)
    return frames
  }
}

/** Of the frame at the start of `bytes`, header and all; undefined: the header is not here yet. */
function frameLength(bytes: Uint8Array): number | undefined {
  const [, high, middle, low] = bytes
  if (high === undefined || middle === undefined || low === undefined) return undefined
  const payload = (high << 16) | (middle << 8) | low
  if (payload > TERMINAL_LIMITS.payloadBytes) {
    throw new FieldError('frame', `of at most ${TERMINAL_LIMITS.payloadBytes} bytes`)
  }
  return HEADER_BYTES + payload
}

function openFrame(frame: Uint8Array): { type: number; payload: Uint8Array; view: DataView } {
  const [type] = frame
  if (type === undefined || frameLength(frame) !== frame.length) throw new FieldError('frame', 'whole, and alone')
  const payload = frame.subarray(HEADER_BYTES)
  return { type, payload, view: new DataView(payload.buffer, payload.byteOffset, payload.byteLength) }
}

function bytesFrame(type: number, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + payload.length)
  frame.set([type, payload.length >>> 16, (payload.length >>> 8) & 0xff, payload.length & 0xff])
  frame.set(payload, HEADER_BYTES)
  return frame
}

function jsonFrame(type: number, value: object): Uint8Array {
  return bytesFrame(type, utf8Encode(JSON.stringify(value)))
}

function positionFrame(type: number, position: number, bytes: Uint8Array = new Uint8Array(0)): Uint8Array {
  const payload = new Uint8Array(POSITION_BYTES + bytes.length)
  const view = new DataView(payload.buffer)
  view.setUint32(0, Math.floor(position / 2 ** 32))
  view.setUint32(4, position % 2 ** 32)
  payload.set(bytes, POSITION_BYTES)
  return bytesFrame(type, payload)
}

function sizeFrame(type: number, { cols, rows }: TerminalSize): Uint8Array {
  return bytesFrame(type, Uint8Array.of(cols >>> 8, cols & 0xff, rows >>> 8, rows & 0xff))
}

function tokenFrame(type: number, token: number): Uint8Array {
  const payload = new Uint8Array(4)
  new DataView(payload.buffer).setUint32(0, token)
  return bytesFrame(type, payload)
}

function readPosition(view: DataView): number {
  if (view.byteLength < POSITION_BYTES) throw new FieldError('position', 'a number of 64 bits')
  return whole('position', view.getUint32(0) * 2 ** 32 + view.getUint32(4), 0, Number.MAX_SAFE_INTEGER)
}

function readToken(view: DataView): number {
  if (view.byteLength < 4) throw new FieldError('token', 'a number of 32 bits')
  return view.getUint32(0)
}

function bytesOf(path: string, bytes: Uint8Array, most: number): Uint8Array {
  if (bytes.length === 0 || bytes.length > most) throw new FieldError(path, `1 to ${most} bytes`)
  return bytes
}

function jsonPayload(payload: Uint8Array): JsonObject {
  return jsonObject('the payload', utf8Decode(payload) ?? '')
}

function parseAttach(fields: JsonObject): TerminalAttach {
  const { right, shell, position } = fields
  return {
    scope: idOf('scope', fields['scope']),
    ...(right !== undefined && { right: idOf('right', right) }),
    ...(shell !== undefined && { shell: idOf('shell', shell) }),
    viewer: idOf('viewer', fields['viewer']),
    ...parseSize(fields),
    ...(position !== undefined && { position: positionOf('position', position) }),
  }
}

function parseAttached(fields: JsonObject): TerminalAttached {
  const isReset = fields['is_reset']
  if (typeof isReset !== 'boolean') throw new FieldError('is_reset', 'true or false')
  return {
    shell: idOf('shell', fields['shell']),
    position: positionOf('position', fields['position']),
    answer_from: positionOf('answer_from', fields['answer_from']),
    input: positionOf('input', fields['input']),
    is_reset: isReset,
    prefix: prose('prefix', fields['prefix'], TERMINAL_LIMITS.prefixCharacters),
    ...parseSize(fields),
  }
}

function parseSize(fields: JsonObject | TerminalSize): TerminalSize {
  const { cols, rows } = fields
  return {
    cols: whole('cols', cols, 1, TERMINAL_LIMITS.cols),
    rows: whole('rows', rows, 1, TERMINAL_LIMITS.rows),
  }
}

function idOf(path: string, raw: unknown): string {
  return text(path, raw, TERMINAL_LIMITS.idCharacters)
}

function positionOf(path: string, raw: unknown): number {
  return whole(path, raw, 0, Number.MAX_SAFE_INTEGER)
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const all = new Uint8Array(first.length + second.length)
  all.set(first)
  all.set(second, first.length)
  return all
}
