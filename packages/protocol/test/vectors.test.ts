import { readFileSync } from 'node:fs'
import { encodeFrame, FRAME_HEADER_BYTES, FrameDecoder, LIMITS, SessionFault, writeDataHeader } from '@cyberun/protocol'
import { describe, expect, test } from 'vitest'

/** Without the spaces that align its tables. */
const page = readFileSync(new URL('../../../docs/protocol.md', import.meta.url), 'utf8').replace(/ +\|/g, ' |')

/** The lines of every block of docs/protocol.md with this mark. */
const block = (mark: string): string[] =>
  [...page.matchAll(new RegExp(`^\`\`\`${mark}\n([^]*?)^\`\`\``, 'gm'))]
    .flatMap((match) => (match[1] ?? '').split('\n'))
    .filter((line) => line !== '')

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'))

/** Every frame found in `bytes`, data with its bytes as text. */
function decode(bytes: Uint8Array): unknown[] {
  const frames: unknown[] = []
  const decoder = new FrameDecoder(LIMITS, {
    frame: (frame) => frames.push(frame),
    dataBegins: () => {},
    data: (stream, piece) => frames.push({ type: 'data', stream, text: Buffer.from(piece).toString() }),
  })
  decoder.push(bytes, 0)
  return frames
}

function encode(frame: ReturnType<typeof JSON.parse>): Uint8Array {
  if (frame.type !== 'data') return encodeFrame(frame)
  const payload = Buffer.from(frame.text)
  const bytes = new Uint8Array(FRAME_HEADER_BYTES + payload.length)
  writeDataHeader(bytes, 0, payload.length, frame.stream)
  bytes.set(payload, FRAME_HEADER_BYTES)
  return bytes
}

describe('the vectors of docs/protocol.md', () => {
  const lines = block('vectors')
  const vectors = lines.flatMap((line, i) => (i % 2 === 0 ? [{ json: line, hex: lines[i + 1] ?? '' }] : []))

  test('there is one for each of the eleven frame types', () => {
    expect(new Set(vectors.map(({ json }) => JSON.parse(json).type)).size).toBe(11)
  })

  test.each(vectors)('$json', ({ json, hex }) => {
    expect(Buffer.from(encode(JSON.parse(json))).toString('hex')).toBe(hex.replaceAll(' ', ''))
    expect(decode(bytesOf(hex))).toEqual([JSON.parse(json)])
  })

  test.each(block('refused'))('refused: %s', (line) => {
    const [code = '', ...hex] = line.split(' ')
    expect(() => decode(bytesOf(hex.join('')))).toThrow(expect.objectContaining({ code, name: 'SessionFault' }))
  })

  test('every limit of the page is the one of the code', () => {
    expect(page).toContain(`| streams open | ${LIMITS.streams.toLocaleString('en')} |`)
    expect(page).toContain(`| opens a second | ${LIMITS.opensPerSecond.toLocaleString('en')} |`)
    expect(page).toContain(`| pings a second | ${LIMITS.pingsPerSecond} |`)
    expect(page).toContain(
      `| streams opened and reset before an answer, a second | ${LIMITS.unansweredResetsPerSecond.toLocaleString('en')} |`,
    )
    expect(page).toContain(`| frames in the bytes of one read | ${LIMITS.framesPerReceive.toLocaleString('en')} |`)
    expect(LIMITS.linkBytes).toBe(64 * 1024 * 1024)
  })
})

test('what a later version appends is skipped', () => {
  expect(decode(bytesOf('08000006 00000000 00000007 aabb'))).toEqual([{ type: 'ping', token: 7 }])
})

test('an open of an unknown kind is read, so that it can be reset by name', () => {
  const target = Buffer.from('{"kind":"teleport"}').toString('hex')
  const open = bytesOf(`03000018 00000001 00040000 09 ${target}`)
  expect(decode(open)).toEqual([{ type: 'open', stream: 1, window: 262_144, priority: 'bulk', target: undefined }])
})

test('an error that is no fault of the peer is not a SessionFault', () => {
  expect(new SessionFault('frame_unknown', 'x')).toBeInstanceOf(Error)
  expect(() => encodeFrame({ type: 'open', stream: 1, window: 1, priority: 'bulk', target: undefined })).toThrow(
    /target/,
  )
})
