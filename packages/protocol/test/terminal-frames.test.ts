import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FieldError } from '../src/fields.ts'
import {
  decodeShellFrame,
  decodeViewerFrame,
  encodeShellFrame,
  encodeViewerFrame,
  TERMINAL_LIMITS,
  TERMINAL_REFUSALS,
  TerminalFrameReader,
} from '../src/terminal-frames.ts'

const page = readFileSync(new URL('../../../docs/protocol.md', import.meta.url), 'utf8')

interface Vector {
  json: string
  frame: ReturnType<typeof JSON.parse>
  bytes: Uint8Array
}

/** The vectors of a block of docs/protocol.md: a frame as JSON, its bytes as `text`, then the same in hex. */
function vectorsOf(mark: string): Vector[] {
  const block = new RegExp(`^\`\`\`${mark}\n([^]*?)^\`\`\``, 'm').exec(page)?.[1] ?? ''
  const lines = block.split('\n').filter((line) => line !== '')
  return lines.flatMap((json, at) => {
    if (at % 2 === 1) return []
    const { text, ...rest } = JSON.parse(json)
    const frame = text === undefined ? rest : { ...rest, bytes: new Uint8Array(Buffer.from(text)) }
    return [{ json, frame, bytes: new Uint8Array(Buffer.from((lines[at + 1] ?? '').replaceAll(' ', ''), 'hex')) }]
  })
}

const viewer = vectorsOf('viewer-frames')
const shell = vectorsOf('shell-frames')
const frameOf = (type: number, payload: Uint8Array): Uint8Array =>
  Uint8Array.of(type, payload.length >> 16, (payload.length >> 8) & 255, payload.length & 255, ...payload)
const json = (type: number, value: unknown): Uint8Array => frameOf(type, Buffer.from(JSON.stringify(value)))

describe('the frames of docs/protocol.md', () => {
  test('there is one for each type', () => {
    expect(new Set(viewer.map(({ frame }) => frame.type)).size).toBe(8)
    expect(new Set(shell.map(({ frame }) => frame.type)).size).toBe(7)
  })

  test.each(viewer)('a viewer sends $json', ({ frame, bytes }) => {
    expect(Buffer.from(encodeViewerFrame(frame)).toString('hex')).toBe(Buffer.from(bytes).toString('hex'))
    expect(decodeViewerFrame(bytes)).toEqual(frame)
    expect(decodeShellFrame(bytes), 'it is no frame of the other direction').toBeUndefined()
  })

  test.each(shell)('a shell answers $json', ({ frame, bytes }) => {
    expect(Buffer.from(encodeShellFrame(frame)).toString('hex')).toBe(Buffer.from(bytes).toString('hex'))
    expect(decodeShellFrame(bytes)).toEqual(frame)
    expect(decodeViewerFrame(bytes)).toBeUndefined()
  })

  test('every reason and bound of the page is the one of the code', () => {
    for (const reason of TERMINAL_REFUSALS) expect(page).toContain(`| \`${reason}\` |`)
    expect(page).toContain(`\`cols\` 1 to ${TERMINAL_LIMITS.cols}, \`rows\` 1 to ${TERMINAL_LIMITS.rows}`)
    expect(page).toContain(`1 to ${TERMINAL_LIMITS.inputBytes} bytes`)
    expect(page).toContain(`1 to ${TERMINAL_LIMITS.reportBytes} bytes`)
    expect(TERMINAL_LIMITS.outputWindowBytes).toBe(256 * 1024)
    expect(TERMINAL_LIMITS.inputWindowBytes).toBe(64 * 1024)
  })
})

const ATTACH = { scope: 's', viewer: 'v', cols: 80, rows: 24 }

test.each([
  ['nothing', new Uint8Array(0)],
  ['half a header', Uint8Array.of(2, 0, 0)],
  ['less than its length says', Uint8Array.of(2, 0, 0, 9, 0)],
  ['more than its length says', Uint8Array.of(6, 0, 0, 0, 0)],
  ['input without a byte', frameOf(2, new Uint8Array(8))],
  ['input without a position', frameOf(2, new Uint8Array(3))],
  ['too much input', frameOf(2, new Uint8Array(8 + TERMINAL_LIMITS.inputBytes + 1))],
  ['a position beyond what counts exactly', frameOf(5, new Uint8Array(8).fill(255))],
  ['an empty report', frameOf(3, new Uint8Array(0))],
  ['a long report', frameOf(3, new Uint8Array(TERMINAL_LIMITS.reportBytes + 1))],
  ['no columns', frameOf(4, Uint8Array.of(0, 0, 0, 24))],
  ['too many columns', frameOf(4, Uint8Array.of(255, 255, 0, 24))],
  ['half a size', frameOf(4, Uint8Array.of(0, 80))],
  ['half a token', frameOf(7, new Uint8Array(3))],
  ['no JSON', frameOf(1, Buffer.from('{'))],
  ['no UTF-8', frameOf(1, Uint8Array.of(255))],
  ['an attach without scope', json(1, { ...ATTACH, scope: undefined })],
  ['an attach with a control character', json(1, { ...ATTACH, viewer: 'a\u001b' })],
  ['a long shell id', json(1, { ...ATTACH, shell: 'x'.repeat(65) })],
  ['half a row', json(1, { ...ATTACH, rows: 0.5 })],
  ['a negative position', json(1, { ...ATTACH, position: -1 })],
])('from a viewer is refused: %s', (_what, bytes) => {
  expect(() => decodeViewerFrame(bytes)).toThrow(FieldError)
})

test.each([
  [
    'attached without a word on resetting',
    json(65, { ...ATTACH, shell: 'a', position: 0, answer_from: 0, input: 0, prefix: '' }),
  ],
  ['output without a position', frameOf(66, new Uint8Array(3))],
  ['too many viewers', json(67, { cols: 1, rows: 1, viewers: 1e6 })],
  ['an exit code beyond 255', json(69, { code: 256, signal: null })],
  ['an unknown refusal', json(70, { reason: 'mood', message: '' })],
])('from a shell is refused: %s', (_what, bytes) => {
  expect(() => decodeShellFrame(bytes)).toThrow(FieldError)
})

test('how the bytes are cut never matters', () => {
  const all = Buffer.concat([...viewer, ...shell].map(({ bytes }) => bytes))
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 40 })), (sizes) => {
      const reader = new TerminalFrameReader()
      const found: Uint8Array[] = []
      let at = 0
      for (const size of [...sizes, all.length]) {
        found.push(...reader.push(all.subarray(at, at + size)).map((frame) => Uint8Array.from(frame)))
        at += size
      }
      expect(found.map((frame) => Buffer.from(frame).toString('hex'))).toEqual(
        [...viewer, ...shell].map(({ bytes }) => Buffer.from(bytes).toString('hex')),
      )
    }),
  )
})

test('a frame longer than any may be is refused by its header', () => {
  expect(() => new TerminalFrameReader().push(Uint8Array.of(66, 1, 0, 1))).toThrow(FieldError)
})

test('no bytes make a reader throw anything but a FieldError', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 80 }), fc.uint8Array({ maxLength: 60 }), (type, payload) => {
      for (const decode of [decodeViewerFrame, decodeShellFrame]) {
        try {
          decode(frameOf(type, payload))
        } catch (error) {
          expect(error).toBeInstanceOf(FieldError)
        }
      }
    }),
  )
})
