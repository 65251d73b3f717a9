import { type ControlFrame, encodeFrame, FrameDecoder, LIMITS, SessionFault, writeDataHeader } from '@cyberun/protocol'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { cut, spoilHeadroom } from './cut.ts'

const stream = fc.integer({ min: 1, max: 0xffffffff })
const u32 = fc.integer({ min: 0, max: 0xffffffff })
const frame: fc.Arbitrary<ControlFrame> = fc.oneof(
  fc.record({
    type: fc.constant('open' as const),
    stream,
    window: u32,
    priority: fc.constantFrom('control' as const, 'terminal' as const, 'interactive' as const, 'bulk' as const),
    target: fc.oneof(
      fc.record({ kind: fc.constant('tcp' as const), port: fc.integer({ min: 1, max: 65_535 }) }),
      fc.constant({ kind: 'control' as const }),
    ),
  }),
  fc.record({ type: fc.constant('credit' as const), stream, bytes: u32 }),
  fc.record({ type: fc.constant('end' as const), stream }),
  fc.record({
    type: fc.constant('reset' as const),
    stream,
    code: fc.constantFrom('cancelled' as const, 'target_reset' as const),
  }),
  fc.record({ type: fc.constantFrom('ping' as const, 'pong' as const), token: u32 }),
  fc.record({ type: fc.constant('ack' as const), frames: fc.maxSafeNat() }),
  fc.record({
    type: fc.constant('goAway' as const),
    reason: fc.record({
      code: fc.constantFrom('evicted' as const, 'refused' as const),
      message: fc.string({ unit: 'grapheme', maxLength: 99 }),
    }),
    deadlineMs: u32,
  }),
)
const data = fc.record({
  type: fc.constant('data' as const),
  stream,
  bytes: fc.uint8Array({ minLength: 1, maxLength: 300 }),
})
type Sent = ControlFrame | { type: 'data'; stream: number; bytes: Uint8Array }

function encode(sent: Sent): Uint8Array {
  if (sent.type !== 'data') return encodeFrame(sent)
  const bytes = new Uint8Array(8 + sent.bytes.length)
  writeDataHeader(bytes, 0, sent.bytes.length, sent.stream)
  bytes.set(sent.bytes, 8)
  return bytes
}

function decodeAll(pieces: Uint8Array[]): Sent[] {
  const got: Sent[] = []
  const decoder = new FrameDecoder(LIMITS, {
    frame: (control) => got.push(control),
    dataBegins: (id) => got.push({ type: 'data', stream: id, bytes: new Uint8Array(0) }),
    data(id, bytes, headroom) {
      spoilHeadroom(bytes, headroom)
      const last = got.at(-1)
      if (last?.type !== 'data' || last.stream !== id) throw new Error('data without a beginning')
      last.bytes = new Uint8Array(Buffer.concat([last.bytes, bytes]))
    },
  })
  for (const piece of pieces) decoder.push(piece, 0)
  return got
}

test('how the bytes are cut never matters', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(frame, data), { maxLength: 30 }),
      fc.array(fc.integer({ min: 1, max: 40 })),
      (sent, sizes) => {
        expect(decodeAll(cut(Buffer.concat(sent.map(encode)), sizes))).toEqual(sent)
      },
    ),
  )
})

test('no bytes whatever make the decoder throw anything but a SessionFault', () => {
  const header = fc
    .tuple(fc.integer({ min: 0, max: 13 }), fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 3 }))
    .map(([type, length, id]) => Buffer.from([type, 0, 0, length, 0, 0, 0, id]))
  const noise = fc.array(fc.oneof(fc.uint8Array({ maxLength: 40 }), header), { maxLength: 20 })
  fc.assert(
    fc.property(noise, fc.array(fc.integer({ min: 1, max: 9 })), (parts, sizes) => {
      try {
        decodeAll(cut(Buffer.concat(parts), sizes))
      } catch (error) {
        expect(error).toBeInstanceOf(SessionFault)
      }
    }),
    { numRuns: 2000 },
  )
})

test('a long length is judged before a byte of payload is kept', () => {
  const decoder = new FrameDecoder(LIMITS, { frame: () => {}, dataBegins: () => {}, data: () => {} })
  expect(() => decoder.push(Uint8Array.of(1, 0xff, 0xff, 0xff, 0, 0, 0, 0), 0)).toThrow(/hello of 16777215 bytes/)
})

test('more frames in one read than anybody means are a fault', () => {
  const end = encodeFrame({ type: 'end', stream: 1 })
  const flood = new Uint8Array(end.length * 101)
  for (let at = 0; at < flood.length; at += end.length) flood.set(end, at)
  const limits = { ...LIMITS, framesPerReceive: 100 }
  const decoder = new FrameDecoder(limits, { frame: () => {}, dataBegins: () => {}, data: () => {} })
  expect(() => decoder.push(flood, 0)).toThrow(expect.objectContaining({ code: 'limit_exceeded' }))
})
