import fc from 'fast-check'
import { expect, test } from 'vitest'
import { FrameCounter } from '../../src/tunnels/inspector/frame-counter.ts'

interface Frame {
  opcode: number
  isLast: boolean
  isMasked: boolean
  payload: Uint8Array
}

/** A frame as RFC 6455, section 5.2, draws it. */
function encode({ opcode, isLast, isMasked, payload }: Frame): Buffer {
  const { length } = payload
  const first = (isLast ? 0x80 : 0) | opcode
  const short = length < 126 ? length : length < 65_536 ? 126 : 127
  const size = Buffer.alloc(short < 126 ? 0 : short === 126 ? 2 : 8)
  if (short === 126) size.writeUInt16BE(length)
  if (short === 127) size.writeBigUInt64BE(BigInt(length))
  const mask = isMasked ? Buffer.from([0x12, 0xf4, 0x56, 0x78]) : Buffer.alloc(0)
  const body = Buffer.from(payload.map((byte, i) => byte ^ (mask[i % 4] ?? 0)))
  return Buffer.concat([Buffer.from([first, (isMasked ? 0x80 : 0) | short]), size, mask, body])
}

const text = (isLast: boolean, payload = '', opcode = 1): Frame => ({
  opcode,
  isLast,
  isMasked: true,
  payload: Buffer.from(payload),
})

function counted(bytes: Uint8Array, cuts: readonly number[] = []) {
  const counter = new FrameCounter()
  let at = 0
  for (const size of cuts) {
    counter.push(bytes.subarray(at, at + size))
    at += size
  }
  counter.push(bytes.subarray(at))
  return counter.counted
}

test('messages are counted when they are complete, and control frames are none', () => {
  const ping: Frame = { opcode: 9, isLast: true, isMasked: true, payload: Buffer.from('abc') }
  const frames = [
    text(true, 'hello'),
    text(false, 'he'),
    ping,
    text(false, 'l', 0),
    text(true, 'lo', 0),
    text(false, 'x'),
  ]
  expect(counted(Buffer.concat(frames.map(encode)))).toEqual({ messages: 2, bytes: 11 })
})

test('a close frame tells its status, masked or not, or that it has none', () => {
  const close = (payload: number[], isMasked: boolean): Frame => ({
    opcode: 8,
    isLast: true,
    isMasked,
    payload: Uint8Array.from(payload),
  })
  expect(counted(encode(close([0x03, 0xe9, 0x62], true))).closeCode).toBe(1001)
  expect(counted(encode(close([0x0f, 0xa0], false)), [3]).closeCode).toBe(4000)
  expect(counted(encode(close([], true))).closeCode).toBe(1005)
})

test('what cannot be frames ends the counting and nothing else', () => {
  const counter = new FrameCounter()
  counter.push(Buffer.from([0x89, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))
  counter.push(encode(text(true, 'more')))
  expect(counter.counted).toEqual({ messages: 0, bytes: 0 })
})

test('how the bytes are cut never matters', () => {
  const frame = fc.record({
    opcode: fc.constantFrom(0, 1, 2, 9),
    isLast: fc.boolean(),
    isMasked: fc.boolean(),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 125 }),
      fc.constant(new Uint8Array(126)),
      fc.constant(new Uint8Array(70_000)),
    ),
  })
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 8 }), fc.array(fc.integer({ min: 1, max: 300 })), (frames, cuts) => {
      const usable = frames.filter(({ opcode, payload }) => opcode < 8 || payload.length < 126)
      const data = usable.filter(({ opcode }) => opcode < 8)
      const bytes = Buffer.concat(usable.map(encode))
      expect(counted(bytes, cuts)).toEqual({
        messages: data.filter(({ isLast }) => isLast).length,
        bytes: data.reduce((sum, { payload }) => sum + payload.length, 0),
      })
    }),
  )
})
