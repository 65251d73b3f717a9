// The frames between a viewer and its shell: docs/protocol.md, "Terminals". The codec of packages/protocol for a browser; a
// test holds the two together.

const HEADER_BYTES = 4
const POSITION_BYTES = 8

/** @param {number} type @param {Uint8Array} payload */
function frame(type, payload) {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length)
  bytes.set([type, payload.length >>> 16, (payload.length >>> 8) & 0xff, payload.length & 0xff])
  bytes.set(payload, HEADER_BYTES)
  return bytes
}

/** @param {number} type @param {number} position @param {Uint8Array} bytes */
function positioned(type, position, bytes) {
  const payload = new Uint8Array(POSITION_BYTES + bytes.length)
  new DataView(payload.buffer).setBigUint64(0, BigInt(position))
  payload.set(bytes, POSITION_BYTES)
  return frame(type, payload)
}

const NOTHING = new Uint8Array(0)

/** @param {number} position @param {Uint8Array} bytes */
export const inputFrame = (position, bytes) => positioned(2, position, bytes)
/** @param {Uint8Array} bytes */
export const reportFrame = (bytes) => frame(3, bytes)
/** @param {{ cols: number, rows: number }} size */
export const resizeFrame = ({ cols, rows }) => frame(4, Uint8Array.of(cols >>> 8, cols & 0xff, rows >>> 8, rows & 0xff))
/** @param {number} position */
export const takenFrame = (position) => positioned(5, position, NOTHING)
export const hangUpFrame = () => frame(6, NOTHING)
/** @param {number} token */
export const pingFrame = (token) => frame(7, Uint8Array.of(token >>> 24, token >>> 16, token >>> 8, token))

const text = new TextDecoder()

/** What a shell says; undefined for a type of a later version. @param {ArrayBuffer} buffer */
export function readFrame(buffer) {
  const view = new DataView(buffer)
  const payload = new Uint8Array(buffer, HEADER_BYTES)
  const json = () => JSON.parse(text.decode(payload))
  const position = () => Number(view.getBigUint64(HEADER_BYTES))
  switch (view.getUint8(0)) {
    case 65:
      return { type: 'attached', ...json() }
    case 66:
      return { type: 'output', position: position(), bytes: payload.subarray(POSITION_BYTES) }
    case 67:
      return { type: 'state', ...json() }
    case 68:
      return { type: 'received', position: position() }
    case 69:
      return { type: 'exited', ...json() }
    case 70:
      return { type: 'refused', ...json() }
    case 71:
      return { type: 'pong', token: view.getUint32(HEADER_BYTES) }
    default:
      return undefined
  }
}
