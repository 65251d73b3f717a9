import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RESPONSE_LIMITS, ResponseFault, ResponseParser } from '../../src/tunnels/http/response-parser.ts'

interface Read {
  interim: { status: number; fields: string[] }[]
  status?: number
  reason?: string
  fields?: string[]
  framing?: string
  persistent?: boolean
  body: string
  complete: boolean
  trailers: string[]
  /** Bytes that were left to nobody, or to the new protocol. */
  left: string
  fault?: string
}

/** Reads `pieces` as one answer, then the end of the connection when `closed`. */
function read(
  pieces: readonly (string | Buffer)[],
  {
    toHead = false,
    toUpgrade = false,
    closed = false,
  }: { toHead?: boolean; toUpgrade?: boolean; closed?: boolean } = {},
): Read {
  const result: Read = { interim: [], body: '', complete: false, trailers: [], left: '' }
  const parser = new ResponseParser()
  parser.expect(
    { toHead, toUpgrade },
    {
      onInterim: (status, _reason, fields) => void result.interim.push({ status, fields }),
      onHead({ status, reason, fields, framing, persistent }) {
        Object.assign(result, { status, reason, fields, framing: framing.kind, persistent })
      },
      onBody(bytes) {
        result.body += Buffer.from(bytes).toString('latin1')
      },
      onComplete(trailers) {
        result.complete = true
        result.trailers = trailers
      },
    },
  )
  try {
    for (const piece of pieces) {
      const bytes = Buffer.isBuffer(piece) ? piece : Buffer.from(piece, 'latin1')
      result.left += bytes.subarray(parser.push(bytes)).toString('latin1')
    }
    if (closed) parser.finish()
  } catch (error) {
    if (!(error instanceof ResponseFault)) throw error
    result.fault = error.message
  }
  return result
}

const OK = 'HTTP/1.1 200 OK\r\n'

describe('answers that are taken', () => {
  const cases: [name: string, bytes: string, expected: Partial<Read>, options?: Parameters<typeof read>[1]][] = [
    [
      'a length',
      `${OK}Content-Length: 3\r\n\r\nabc`,
      { body: 'abc', complete: true, persistent: true, framing: 'length' },
    ],
    ['no bytes', `${OK}Content-Length: 0\r\n\r\n`, { body: '', complete: true }],
    [
      'white space around a value',
      `${OK}Content-Length: \t 3 \t\r\nX:\r\n\r\nabc`,
      { fields: ['Content-Length', '3', 'X', ''] },
    ],
    [
      'a value that ends in 0xA0',
      `${OK}Content-Length:0\r\nX: a\xa0\r\n\r\n`,
      { fields: ['Content-Length', '0', 'X', 'a\xa0'] },
    ],
    [
      'duplicates and case',
      `${OK}a: 1\r\nA: 2\r\ncontent-LENGTH: 0\r\n\r\n`,
      { fields: ['a', '1', 'A', '2', 'content-LENGTH', '0'] },
    ],
    [
      'chunks',
      `${OK}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n`,
      { body: 'abc0123456789', complete: true },
    ],
    [
      'chunk extensions',
      `${OK}Transfer-Encoding: Chunked\r\n\r\n3;a="b c"\r\nabc\r\n0 ;x\r\n\r\n`,
      { body: 'abc', complete: true },
    ],
    [
      'trailers',
      `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 9\r\nY: 1\r\n\r\n`,
      { trailers: ['X-Sum', '9', 'Y', '1'], complete: true },
    ],
    [
      'until closed',
      `${OK}\r\nabc`,
      { body: 'abc', complete: true, persistent: false, framing: 'close' },
      { closed: true },
    ],
    ['HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na', { body: 'a', complete: true, persistent: false }],
    [
      'an answer to HEAD',
      `${OK}Content-Length: 3\r\n\r\n`,
      { complete: true, body: '', fields: ['Content-Length', '3'] },
      { toHead: true },
    ],
    ['304 with a length', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n', { complete: true, body: '' }],
    ['204', 'HTTP/1.1 204 No Content\r\n\r\n', { complete: true, persistent: true }],
    ['no reason', 'HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n', { status: 200, reason: '' }],
    ['an unknown status', 'HTTP/1.1 799 Odd\xe9\r\nContent-Length: 0\r\n\r\n', { status: 799, reason: 'Odd\xe9' }],
    [
      'interim answers',
      `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${OK}Content-Length: 0\r\n\r\n`,
      {
        interim: [
          { status: 100, fields: [] },
          { status: 103, fields: ['Link', '</a>'] },
        ],
        status: 200,
      },
    ],
    ['Connection: close', `${OK}Connection: x, Close\r\nContent-Length: 0\r\n\r\n`, { persistent: false }],
    ['bytes after the end', `${OK}Content-Length: 1\r\n\r\nabHTTP`, { body: 'a', complete: true, left: 'bHTTP' }],
    [
      'an upgrade',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00',
      { status: 101, complete: false, left: '\x81\x00' },
      { toUpgrade: true },
    ],
    [
      'an upgrade refused',
      'HTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\nx',
      { status: 403, body: 'x', complete: true },
      { toUpgrade: true },
    ],
  ]
  test.each(cases)('%s', (_name, bytes, expected, options) => {
    const whole = read([bytes], options)
    expect(whole.fault).toBeUndefined()
    expect(whole).toMatchObject(expected)
    expect(read([...bytes], options)).toEqual(whole)
  })
})

describe('answers that are refused', () => {
  const chunked = `${OK}Transfer-Encoding: chunked\r\n\r\n`
  const cases: [name: string, bytes: string, options?: Parameters<typeof read>[1]][] = [
    ['length and chunked', `${OK}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n`],
    ['two lengths', `${OK}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc`],
    ['a list of lengths', `${OK}Content-Length: 3, 3\r\n\r\nabc`],
    ['a signed length', `${OK}Content-Length: +3\r\n\r\nabc`],
    ['a hexadecimal length', `${OK}Content-Length: 0x3\r\n\r\nabc`],
    ['an empty length', `${OK}Content-Length:\r\n\r\n`],
    ['a length beyond counting', `${OK}Content-Length: 9999999999999999\r\n\r\n`],
    ['gzip, chunked', `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n`],
    ['xchunked', `${OK}Transfer-Encoding: xchunked\r\n\r\n`],
    ['chunked twice', `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n`],
    ['chunked in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['framing faults to HEAD too', `${OK}Content-Length: 3\r\nContent-Length: 4\r\n\r\n`, { toHead: true }],
    ['a folded field', `${OK}X: a\r\n b\r\n\r\n`],
    ['a fold first', `${OK} X: a\r\n\r\n`],
    ['a bare LF', `${OK}X: a\nContent-Length: 0\r\n\r\n`],
    ['a bare LF at the end', 'HTTP/1.1 200 OK\n\n'],
    ['a bare CR', `${OK}X: a\rb\r\n\r\n`],
    ['NUL', `${OK}X: a\0b\r\n\r\n`],
    ['a control character', `${OK}X: a\x01\r\n\r\n`],
    ['a space before the colon', `${OK}X : a\r\n\r\n`],
    ['no colon', `${OK}Xa\r\n\r\n`],
    ['no name', `${OK}: a\r\n\r\n`],
    ['HTTP/2', 'HTTP/2 200 OK\r\n\r\n'],
    ['HTTP/1.2', 'HTTP/1.2 200 OK\r\n\r\n'],
    ['two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['status 099', 'HTTP/1.1 099 OK\r\n\r\n'],
    ['an empty line first', `\r\n${OK}\r\n`],
    ['a control character in the reason', 'HTTP/1.1 200 O\x02K\r\n\r\n'],
    ['101 unasked', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
    ['a chunk size with a sign', `${chunked}+3\r\nabc`],
    ['a chunk size with 0x', `${chunked}0x3\r\nabc`],
    ['a chunk size with a space behind', `${chunked}3 \r\nabc`],
    ['an empty chunk size', `${chunked}\r\n`],
    ['a chunk size beyond counting', `${chunked}FFFFFFFFFFFFFFFF\r\n`],
    ['a chunk size that ends in LF', `${chunked}3\nabc`],
    ['a NUL in a chunk extension', `${chunked}3;\0\r\nabc`],
    ['a CR in a chunk extension', `${chunked}3;a\rb\r\nabc`],
    ['a chunk longer than said', `${chunked}3\r\nabcd\r\n`],
    ['a chunk that ends in LF', `${chunked}3\r\nabc\n`],
    ['a length as trailer', `${chunked}0\r\nContent-Length: 3\r\n\r\n`],
    ['a folded trailer', `${chunked}0\r\nX: a\r\n b\r\n\r\n`],
    ['a body cut short', `${OK}Content-Length: 3\r\n\r\nab`, { closed: true }],
    ['chunks cut short', `${chunked}3\r\nab`, { closed: true }],
    ['chunks without the last', `${chunked}3\r\nabc\r\n`, { closed: true }],
    ['no answer', '', { closed: true }],
    ['half a head', 'HTTP/1.1 200', { closed: true }],
    ['an endless head', `${OK}X: ${'a'.repeat(RESPONSE_LIMITS.headBytes)}`],
    ['too long a head', `${OK}X: ${'a'.repeat(RESPONSE_LIMITS.headBytes)}\r\n\r\n`],
    ['an endless chunk extension', `${chunked}3;${'a'.repeat(RESPONSE_LIMITS.chunkLineBytes)}`],
    ['endless trailers', `${chunked}0\r\n${'X: a\r\n'.repeat(RESPONSE_LIMITS.headBytes / 6 + 1)}`],
    ['endless interim answers', 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(RESPONSE_LIMITS.interimAnswers + 1)],
  ]
  test.each(cases)('%s', (_name, bytes, options) => {
    expect(read([bytes], options).fault).toMatch(/^the service /)
    expect(read([...bytes], options).fault).toBe(read([bytes], options).fault)
  })
})

test('nothing is taken before an answer is expected, nor after a fault', () => {
  const parser = new ResponseParser()
  expect(parser.push(Buffer.from(OK))).toBe(0)
  parser.expect({ toHead: false, toUpgrade: false }, { onInterim() {}, onHead() {}, onBody() {}, onComplete() {} })
  expect(() => parser.push(Buffer.from('nonsense\r\n\r\n'))).toThrow(ResponseFault)
  expect(() => parser.push(Buffer.from(`${OK}\r\n`))).toThrow(ResponseFault)
})

/** Answers with and without faults: well-formed ones with a few bytes changed, cut anywhere. */
const answers = fc
  .record({
    framing: fc.constantFrom('Content-Length: 20', 'Transfer-Encoding: chunked', 'X: y'),
    body: fc.constantFrom('5\r\nhello\r\n0\r\n\r\n', '12345678901234567890', '0\r\nT: v\r\n\r\n', ''),
    start: fc.constantFrom(OK, 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n', 'HTTP/1.0 404 No\r\n'),
    changes: fc.array(fc.tuple(fc.nat(120), fc.constantFrom('\r', '\n', '\0', ' ', ':', ';', 'F', '\x80')), {
      maxLength: 2,
    }),
  })
  .map(({ framing, body, start, changes }) => {
    const bytes = Buffer.from(`${start}${framing}\r\n\r\n${body}`, 'latin1')
    for (const [at, byte] of changes) bytes.write(byte, at % bytes.length, 'latin1')
    return bytes
  })

test('how the bytes are cut never matters, and no bytes make it fail otherwise than by a fault', () => {
  fc.assert(
    fc.property(answers, fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 20 }), (bytes, sizes) => {
      const pieces: Buffer[] = []
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = sizes[i % sizes.length] ?? 1
        pieces.push(bytes.subarray(at, at + size))
        at += size
      }
      const whole = read([bytes], { closed: true })
      expect(read(pieces, { closed: true })).toEqual(whole)
      expect(whole.complete || whole.fault !== undefined).toBe(true)
    }),
    { numRuns: 2_000 },
  )
})

test('random bytes are refused or wait for more, never worse', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const result = read([Buffer.from(bytes)], { closed: true })
      expect(result.fault).toBeDefined()
    }),
    { numRuns: 500 },
  )
})
