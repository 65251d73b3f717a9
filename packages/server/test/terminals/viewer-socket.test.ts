import { encodeShellFrame, type LinkStream, type StreamEvents } from '@cyberun/protocol'
import { expect, test } from 'vitest'
import type { WebSocket } from 'ws'
import { CLOSE, relayViewer } from '../../src/terminals/viewer-socket.ts'

/** A socket that takes nothing until `take`, and a stream whose events the test tells. */
function joined() {
  const queued: { frame: Buffer; taken: () => void }[] = []
  const closed: number[] = []
  const socket = {
    ...{ readyState: 1, OPEN: 1, on() {}, once() {}, pause() {}, resume() {} },
    send: (frame: Uint8Array, taken: () => void) =>
      void queued.push({ frame: Buffer.from(frame.buffer, frame.byteOffset, frame.length), taken }),
    close: (code: number) => void closed.push(code),
    terminate: () => void closed.push(0),
  } as unknown as WebSocket
  let events: StreamEvents | undefined
  const stream: LinkStream = {
    ...{ id: 1, init: { target: { kind: 'terminal' }, priority: 'terminal' }, accepted: Promise.resolve() },
    ...{ queuedBytes: 0, accept() {}, write: () => true, pass: () => true, end() {}, reset() {} },
    listen(given) {
      events = given
    },
  }
  relayViewer(socket, stream, { onAttached() {}, onInput() {} })
  if (!events) throw new Error('nobody listens')
  return { events, queued, closed }
}

const OUTPUT = encodeShellFrame({ type: 'output', position: 0, bytes: Buffer.from('hello') })
/** Output without its position. */
const BROKEN = Uint8Array.of(OUTPUT[0] ?? 0, 0, 0, 0)

test('bytes are given back when the socket has taken all frames of them, also when the last of them is none', () => {
  const { events, queued, closed } = joined()
  let isHeld = false
  const hold = () => {
    isHeld = true
    return () => {
      isHeld = false
    }
  }
  events.onData({ bytes: Buffer.concat([OUTPUT, OUTPUT, BROKEN]), headroom: 0, hold })
  expect(closed).toEqual([CLOSE.linkLost])
  expect(queued.map(({ frame }) => frame)).toEqual([OUTPUT, OUTPUT].map((frame) => Buffer.from(frame)))
  for (const { taken } of queued) {
    expect(isHeld).toBe(true)
    taken()
  }
  expect(isHeld).toBe(false)
})

test('a viewer who takes nothing is cut off when the link needs the room', () => {
  const { events, closed } = joined()
  events.onReclaim?.()
  expect(closed).toEqual([0])
})
