import { createServer, type IncomingMessage } from 'node:http'
import { duplexPair } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { valuesOf } from '../../src/tunnels/http/fields.ts'
import {
  REQUEST_LIMITS,
  type RequestBody,
  RequestFault,
  type RequestHead,
  RequestParser,
} from '../../src/tunnels/http/request-parser.ts'

interface Read {
  line: string
  fields: string[]
  body: string
  trailers: string[]
  complete: boolean
}

/** Framing by the fields alone, which the tests write so that they are sound. */
function framingOf({ fields }: RequestHead): RequestBody {
  if (valuesOf(fields, 'transfer-encoding').length > 0) return { kind: 'chunked' }
  const [length] = valuesOf(fields, 'content-length')
  return length === undefined ? { kind: 'none' } : { kind: 'length', bytes: Number(length) }
}

/** The requests in `pieces`, and the code of the fault that ended the reading. */
function read(pieces: readonly (string | Uint8Array)[]): { requests: Read[]; fault: string | undefined } {
  const requests: Read[] = []
  const last = (): Read => requests.at(-1) ?? expect.fail('a body without a head')
  const parser = new RequestParser({
    onHead(head) {
      const { method, target, httpVersion, fields } = head
      const body = framingOf(head)
      const complete = body.kind === 'none' || (body.kind === 'length' && body.bytes === 0)
      requests.push({ line: `${method} ${target} ${httpVersion}`, fields, body: '', trailers: [], complete })
      return body
    },
    onBody(bytes) {
      last().body += Buffer.from(bytes).toString('latin1')
    },
    onComplete(trailers) {
      Object.assign(last(), { trailers, complete: true })
    },
  })
  try {
    for (const piece of pieces) {
      const bytes = typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece
      for (let at = 0; at < bytes.length; ) at = parser.read(bytes, at)
    }
    return { requests, fault: undefined }
  } catch (error) {
    if (!(error instanceof RequestFault)) throw error
    return { requests, fault: error.code }
  }
}

/** `bytes` in pieces of these sizes, used in turn. */
function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const pieces: Uint8Array[] = []
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const end = at + (sizes[i % sizes.length] ?? 1)
    pieces.push(bytes.slice(at, end))
    at = end
  }
  return pieces
}

const GET = 'GET / HTTP/1.1\r\n'

describe('requests that are taken', () => {
  const cases: [name: string, bytes: string, expected: Partial<Read>[]][] = [
    ['no field at all', `${GET}\r\n`, [{ line: 'GET / 1.1', fields: [] }]],
    ['white space around a value', `${GET}A: \t b \t\r\nC:\r\n\r\n`, [{ fields: ['A', 'b', 'C', ''] }]],
    ['duplicates and case', `${GET}a: 1\r\nA: 2\r\n\r\n`, [{ fields: ['a', '1', 'A', '2'] }]],
    ['an empty line first', `\r\n${GET}\r\n`, [{ line: 'GET / 1.1' }]],
    ['any visible target', "OPTIONS /a|{}^`'~?b HTTP/1.0\r\n\r\n", [{ line: "OPTIONS /a|{}^`'~?b 1.0" }]],
    ['two in a row', `${GET}\r\nHEAD /b HTTP/1.1\r\n\r\n`, [{ line: 'GET / 1.1' }, { line: 'HEAD /b 1.1' }]],
    [
      'a length, and the next',
      `POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc${GET}\r\n`,
      [{ body: 'abc', complete: true }, { body: '' }],
    ],
    ['a body cut short', 'PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab', [{ body: 'ab', complete: false }]],
    [
      'chunks, extensions and trailers',
      `M-SEARCH * HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n${GET}\r\n`,
      [{ body: 'abc', trailers: ['X', 'y'], complete: true }, { line: 'GET / 1.1' }],
    ],
  ]
  test.each(cases)('%s', (_name, bytes, expected) => {
    const whole = read([bytes])
    expect(whole).toMatchObject({ requests: expected, fault: undefined })
    expect(read([...bytes])).toEqual(whole)
  })
})

describe('what no request begins with is refused before its line ends', () => {
  test.each([
    ['a TLS hello', '\x16\x03\x01'],
    ['lower case', 'g'],
    ['a blank', ' '],
    ['a method without an end', 'A'.repeat(30)],
    ['a banner of ssh', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['a method that nobody knows', 'FROB / HTTP/1.1\r\n'],
    ['HTTP/0.9', 'GET /\r\n'],
  ])('%s', (_name, bytes) => {
    expect(read([bytes]).fault).toBe('bad_request')
    expect(read([...bytes]).fault).toBe('bad_request')
  })
})

describe('what is more than we hold', () => {
  const { headBytes, headFields, chunkLineBytes } = REQUEST_LIMITS
  const chunked = 'PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n'
  test.each([
    ['an endless head', `${GET}X: ${'a'.repeat(headBytes)}`, 'header_too_large'],
    ['an endless target', `GET /${'a'.repeat(headBytes)}`, 'header_too_large'],
    ['too many fields', `${GET}${'X:\r\n'.repeat(headFields + 1)}\r\n`, 'header_too_large'],
    ['endless trailers', `${chunked}0\r\n${'X: a\r\n'.repeat(headBytes / 6 + 1)}`, 'header_too_large'],
    ['an endless chunk extension', `${chunked}3;${'a'.repeat(chunkLineBytes)}`, 'bad_request'],
  ])('%s', (_name, bytes, fault) => {
    expect(read([bytes]).fault).toBe(fault)
    expect(read(cut(Buffer.from(bytes), [997])).fault).toBe(fault)
  })
})

/** Requests with and without faults: well-formed ones with a few bytes changed. */
const requests = fc
  .record({
    lines: fc.array(fc.constantFrom(GET, 'POST /a?b HTTP/1.1\r\n', '\r\nPUT * HTTP/1.0\r\n'), {
      minLength: 1,
      maxLength: 3,
    }),
    rest: fc.constantFrom(
      'Host: a\r\n\r\n',
      'Content-Length: 5\r\n\r\nhello',
      'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
      'Transfer-Encoding: chunked\r\n\r\n0\r\nT: v\r\n\r\n',
    ),
    changes: fc.array(fc.tuple(fc.nat(160), fc.constantFrom('\r', '\n', '\0', ' ', ':', ';', 'F', '\x80')), {
      maxLength: 2,
    }),
  })
  .map(({ lines, rest, changes }) => {
    const bytes = Buffer.from(lines.map((line) => line + rest).join(''), 'latin1')
    for (const [at, byte] of changes) bytes.write(byte, at % bytes.length, 'latin1')
    return bytes
  })
const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 20 })

test('how the bytes are cut never matters, and no bytes make it fail otherwise than by a fault', () => {
  fc.assert(
    fc.property(requests, sizes, (bytes, pieces) => {
      const whole = read([bytes])
      const inPieces = read(cut(bytes, pieces))
      // A body comes as far as it is there before a fault behind it is seen; what was complete is the same.
      const done = ({ requests }: typeof whole) => requests.filter(({ complete }) => complete)
      expect(inPieces.fault).toBe(whole.fault)
      expect(done(inPieces)).toEqual(done(whole))
    }),
    { numRuns: 3_000 },
  )
})

test('random bytes are refused or wait for more, never worse', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), sizes, (bytes, pieces) => {
      expect(read(cut(bytes, pieces)).requests).toEqual([])
    }),
    { numRuns: 1_000 },
  )
})

const name = fc.stringMatching(/^X-[!#$%&'*+.^`|~0-9A-Za-z-]{1,8}$/)
const value = fc.stringMatching(/^(?:[!-~\xa1-\xff](?:[ \t!-~\xa1-\xff]{0,10}[!-~\xa1-\xff])?)?$/)
const fields = fc.array(fc.tuple(name, value), { maxLength: 5 })
const sound = fc.record({
  line: fc.tuple(
    fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PROPFIND'),
    fc.stringMatching(/^\/[!-"$-[\]-~]{0,20}$/),
  ),
  fields,
  body: fc.option(fc.array(fc.stringMatching(/^[ -~]{1,12}$/), { maxLength: 4 })),
  isChunked: fc.boolean(),
  trailers: fields,
})

function bytesOf({ line, fields, body, isChunked, trailers }: typeof sound extends fc.Arbitrary<infer T> ? T : never) {
  const lines = (list: [string, string][]) => list.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  const head = `${line[0]} ${line[1]} HTTP/1.1\r\nHost: a\r\n${lines(fields)}`
  if (body === null) return `${head}\r\n`
  if (!isChunked) return `${head}Content-Length: ${body.join('').length}\r\n\r\n${body.join('')}`
  const chunks = body.map((chunk) => `${chunk.length.toString(16)};x=y\r\n${chunk}\r\n`).join('')
  return `${head}Transfer-Encoding: chunked\r\n\r\n${chunks}0\r\n${lines(trailers)}\r\n`
}

/** What `node:http` makes of the same bytes. */
async function readByNode(bytes: string, count: number): Promise<Read[]> {
  const [ours, theirs] = duplexPair()
  const seen: Read[] = []
  let begun = 0
  let ended = 0
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const server = createServer(async (request: IncomingMessage, response) => {
    const at = begun++
    let body = ''
    for await (const chunk of request) body += chunk.toString('latin1')
    const { method, url, httpVersion, rawHeaders, rawTrailers } = request
    const line = `${method} ${url} ${httpVersion}`
    seen[at] = { line, fields: rawHeaders, body, trailers: rawTrailers, complete: request.complete }
    response.end()
    if (++ended === count) resolve()
  })
  server.on('clientError', reject)
  server.emit('connection', theirs)
  ours.resume()
  ours.write(bytes, 'latin1')
  await promise
  ours.destroy()
  return seen
}

test('sound requests are read as node:http reads them', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(sound, { minLength: 1, maxLength: 3 }), async (list) => {
      const bytes = list.map(bytesOf).join('')
      expect(read([bytes])).toEqual({ requests: await readByNode(bytes, list.length), fault: undefined })
    }),
    { numRuns: 200 },
  )
})
