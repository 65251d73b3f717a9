import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeLine, lineEvents } from '../src/lines.ts'

const MOST = 1_000

/** Reads `bytes` in pieces of these sizes; what is left comes as one piece. */
function read(bytes: Uint8Array, sizes: readonly number[]) {
  const lines: string[] = []
  let overlong = 0
  let over = 0
  const events = lineEvents(
    { onLine: (line) => lines.push(line), onOverlong: () => overlong++, onOver: () => over++ },
    MOST,
  )
  let from = 0
  for (const size of [...sizes, bytes.length]) {
    // A copy that is wiped afterwards: the bytes are only lent for the call.
    const piece = Uint8Array.from(bytes.subarray(from, from + size))
    events.onData({ bytes: piece, headroom: 0, hold: () => () => {} })
    piece.fill(0)
    from += size
  }
  events.onEnd()
  events.onReset('link_lost')
  return { lines, overlong, over }
}

test('how the bytes are cut never matters', () => {
  const line = fc.string({ unit: 'grapheme', maxLength: 12 }).map((text) => text.replaceAll('\n', ''))
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat(9)), (sent, sizes) => {
      const bytes = Buffer.from(sent.map((text) => `${text}\n`).join(''))
      const fits = sent.every((text) => Buffer.byteLength(text) <= MOST)
      fc.pre(fits)
      expect(read(bytes, sizes)).toEqual({ lines: sent, overlong: 0, over: 1 })
    }),
  )
})

test('a line beyond the bound is told once, with or without its end, and nothing after it is read', () => {
  for (const text of ['x'.repeat(MOST + 1), `${'x'.repeat(MOST + 1)}\nnext\n`]) {
    for (const size of [1, 7, 10_000]) {
      const sizes = Array.from({ length: Math.ceil(text.length / size) }, () => size)
      expect(read(Buffer.from(`first\n${text}`), sizes)).toEqual({ lines: ['first'], overlong: 1, over: 0 })
    }
  }
})

test('a line at the bound is read, and what has no end is not', () => {
  const longest = 'x'.repeat(MOST)
  expect(read(Buffer.from(`${longest}\nrest`), [])).toEqual({ lines: [longest], overlong: 0, over: 1 })
})

test('a value becomes one line', () => {
  expect(Buffer.from(encodeLine({ text: 'two\nlines' })).toString()).toBe('{"text":"two\\nlines"}\n')
})
