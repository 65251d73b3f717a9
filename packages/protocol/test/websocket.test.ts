import {
  applyMask,
  encodeClose,
  encodeWebsocketFrame,
  OPCODE,
  SessionFault,
  WebsocketReader,
  websocketHeaderBytes,
  writeWebsocketHeader,
} from '@cyberun/protocol'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cut, spoilHeadroom } from './cut.ts'

type Seen = { binary: Buffer; events: string[] }

/** Reads `pieces` as a server does, which gets masked frames, or as a client. */
function read(pieces: Uint8Array[], end: 'server' | 'client'): Seen {
  const seen: Seen = { binary: Buffer.alloc(0), events: [] }
  const binary: Uint8Array[] = []
  const reader = new WebsocketReader(
    {
      binary(bytes, headroom) {
        spoilHeadroom(bytes, headroom)
        binary.push(bytes)
      },
      emptyText: () => seen.events.push('text'),
      pinged: (payload) => seen.events.push(`ping ${Buffer.from(payload).toString('hex')}`),
      closed: (code, reason) => seen.events.push(`close ${code} ${reason}`),
    },
    end === 'server',
  )
  for (const piece of pieces) reader.push(piece, 0)
  seen.binary = Buffer.concat(binary)
  return seen
}

/** A frame with FIN as asked; the library's own encoder always sets it. */
function fragment(opcode: number, payload: Uint8Array, mask: number | undefined, fin: boolean): Uint8Array {
  const bytes = encodeWebsocketFrame(opcode, payload, mask)
  if (!fin) bytes[0] = (bytes[0] ?? 0) & 0x7f
  return bytes
}

const mask = fc.integer({ min: 0, max: 0xffffffff })
const payload = fc
  .oneof(fc.nat(200), fc.integer({ min: 65_500, max: 65_600 }))
  .map((length) => Uint8Array.from({ length }, (_, i) => i * 7 + length))

test('messages in fragments, with pings between them, are one byte stream however they are cut', () => {
  const message = fc.array(fc.tuple(payload, mask, fc.boolean()), { minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 3 }),
      fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 4 }),
      (messages, sizes) => {
        const frames: Uint8Array[] = []
        for (const parts of messages) {
          parts.forEach(([bytes, key, withPing], i) => {
            frames.push(fragment(i === 0 ? OPCODE.binary : OPCODE.continuation, bytes, key, i === parts.length - 1))
            if (withPing) frames.push(encodeWebsocketFrame(OPCODE.ping, Uint8Array.of(i), key))
          })
        }
        const seen = read(cut(Buffer.concat(frames), sizes), 'server')
        expect(seen.binary.equals(Buffer.concat(messages.flatMap((parts) => parts.map(([bytes]) => bytes))))).toBe(true)
        expect(seen.events.length).toBe(messages.flat().filter(([, , withPing]) => withPing).length)
      },
    ),
    { numRuns: 60 },
  )
})

test('a piece has the header before it as headroom, and what the first one came with', () => {
  const headrooms: number[] = []
  const handler = {
    emptyText() {},
    pinged() {},
    closed() {},
    binary: (_: Uint8Array, room: number) => headrooms.push(room),
  }
  const reader = new WebsocketReader(handler, false)
  const message = encodeWebsocketFrame(OPCODE.binary, new Uint8Array(200), undefined)
  reader.push(Buffer.concat([message, message.subarray(0, 100)]), 32)
  reader.push(message.subarray(100), 32)
  expect(headrooms).toEqual([36, 4, 32])
})

test('no bytes whatever make the reader throw anything but a SessionFault', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 30 })), fc.constantFrom('server', 'client'), (pieces, end) => {
      try {
        read(
          pieces.map((piece) => Uint8Array.from(piece)),
          end,
        )
      } catch (error) {
        expect(error).toBeInstanceOf(SessionFault)
      }
    }),
    { numRuns: 3000 },
  )
})

test('a mask applied in place is undone by itself at any alignment and offset', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), mask, fc.nat(9), fc.nat(5), (bytes, key, offset, shift) => {
      const slow = bytes.map((byte, i) => byte ^ ((key >>> (8 * (3 - ((i + offset) & 3)))) & 0xff))
      const aligned = new Uint8Array(bytes.length + shift)
      const view = aligned.subarray(shift)
      view.set(bytes)
      applyMask(view, key, offset)
      expect(view).toEqual(slow)
    }),
  )
})

test.each([0, 125, 126, 65_535, 65_536, 2 ** 32 + 5])(
  'a header of %i bytes is as long as it was said to be',
  (length) => {
    for (const key of [undefined, 0x01020304]) {
      expect(writeWebsocketHeader(new Uint8Array(14), 0, OPCODE.binary, length, key)).toBe(
        websocketHeaderBytes(length, key !== undefined),
      )
    }
  },
)

describe('faults', () => {
  const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))
  test.each([
    ['a reserved bit', '92 00'],
    ['a masked frame for a client', '82 81 00000000 00'],
    ['opcode 3', '83 00'],
    ['opcode 11', '8b 00'],
    ['a fragmented ping', '09 00'],
    ['a ping of 126 bytes', '89 7e 007e'],
    ['a continuation of nothing', '80 00'],
    ['a message inside a message', '02 01 00 82 00'],
    ['text with characters', '81 01 41'],
    ['text with characters in a later fragment', '01 00 80 01 41'],
    ['a close of one byte', '88 01 03'],
    ['a close with code 1005', '88 02 03ed'],
    ['a close whose reason is not UTF-8', '88 03 03e8 ff'],
    ['a length beyond 2^53', '82 7f 0020000000000000'],
  ])('%s', (_, bytes) => {
    expect(() => read([hex(bytes)], 'client')).toThrow(SessionFault)
  })
  test('a frame without mask for a server', () => {
    expect(() => read([hex('82 01 00')], 'server')).toThrow(/without mask/)
  })
})

test('a close is the last thing, and tells code and reason', () => {
  const bytes = Buffer.concat([
    encodeWebsocketFrame(OPCODE.close, encodeClose(1001, 'bye'), undefined),
    encodeWebsocketFrame(OPCODE.binary, Uint8Array.of(1), undefined),
  ])
  expect(read([bytes], 'client')).toEqual({ binary: Buffer.alloc(0), events: ['close 1001 bye'] })
  expect(read([Uint8Array.of(0x88, 0)], 'client').events).toEqual(['close 1005 '])
})

test('a reason that does not fit is left out, and an empty text is told', () => {
  expect(encodeClose(1000, 'ä'.repeat(80))).toEqual(Uint8Array.of(0x03, 0xe8))
  expect(read([Uint8Array.of(0x81, 0)], 'client').events).toEqual(['text'])
})
