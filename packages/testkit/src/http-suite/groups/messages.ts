import { expect } from 'vitest'
import { answer, type RequestSpec, rawReply, textAnswer } from '../build.ts'
import { type CaseGroup, compared, verdict } from '../cases.ts'
import { readResponseHead, valuesOf } from '../message.ts'

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'REPORT', 'MKCOL', 'LOCK', 'M-SEARCH']

const STATUSES = [
  ...[
    '200 OK',
    '201 Created',
    '202 Accepted',
    '203 Non-Authoritative Information',
    '206 Partial Content',
    '207 Multi-Status',
  ],
  ...[
    '226 IM Used',
    '300 Multiple Choices',
    '301 Moved Permanently',
    '302 Found',
    '303 See Other',
    '307 Temporary Redirect',
  ],
  ...['308 Permanent Redirect', '400 Bad Request', '401 Unauthorized', '402 Payment Required', '403 Forbidden'],
  ...[
    '404 Not Found',
    '405 Method Not Allowed',
    '409 Conflict',
    '410 Gone',
    '412 Precondition Failed',
    '413 Too Large',
  ],
  ...[
    '416 Range Not Satisfiable',
    '418 I am a teapot',
    '421 Misdirected Request',
    '422 Unprocessable',
    '425 Too Early',
  ],
  ...[
    '426 Upgrade Required',
    '429 Too Many Requests',
    '431 Fields Too Large',
    '451 Unavailable',
    '499 Odd',
    '500 Broken',
  ],
  ...[
    '502 Bad Gateway',
    '503 Unavailable',
    '504 Gateway Timeout',
    '507 Insufficient Storage',
    '511 Network',
    '599 Last',
  ],
  ...['200 A Reason Of Its Own', '200 ', '404 r\xe9ponse introuvable'],
]

export const methods: CaseGroup = {
  name: 'methods',
  cases: [
    ...METHODS.map((method) => compared(method, { method })),
    ...METHODS.slice(0, 6).map((method) =>
      compared(`${method} with a body`, { method, body: { bytes: `body of ${method}`, framing: 'length' } }),
    ),
    compared('POST with an empty body', { method: 'POST', body: { bytes: '', framing: 'length' } }),
  ],
}

export const statuses: CaseGroup = {
  name: 'statuses',
  cases: STATUSES.map((status) =>
    compared(
      status,
      {},
      answer({ status, fields: [['X-Status', status]], body: { bytes: status, framing: 'length' } }),
    ),
  ),
}

export const bodiless: CaseGroup = {
  name: 'answers without a body',
  cases: [
    compared('HEAD with Content-Length', { method: 'HEAD' }, answer({ fields: [['Content-Length', '1234567']] })),
    compared('HEAD with chunked', { method: 'HEAD' }, answer({ fields: [['Transfer-Encoding', 'chunked']] })),
    compared('HEAD without a length', { method: 'HEAD' }, answer({ fields: [['ETag', '"a"']] })),
    compared('HEAD 404', { method: 'HEAD' }, answer({ status: '404 Not Found', fields: [['Content-Length', '9']] })),
    compared('204', { method: 'DELETE' }, answer({ status: '204 No Content', fields: [['X-Gone', 'yes']] })),
    compared('304 without a length', {}, answer({ status: '304 Not Modified', fields: [['ETag', 'W/"7"']] })),
    compared(
      '304 with the length of the body it leaves out',
      { fields: [['If-None-Match', '"7"']] },
      answer({
        status: '304 Not Modified',
        fields: [
          ['ETag', '"7"'],
          ['Content-Length', '5000'],
        ],
      }),
    ),
    compared('200 with Content-Length 0', {}, answer({ body: { bytes: '', framing: 'length' } })),
    compared('200 with an empty chunked body', {}, answer({ body: { bytes: '', framing: 'chunked' } })),
  ],
}

const SLIDES = '--b\r\nContent-Range: bytes 0-1/9\r\n\r\nab\r\n--b\r\nContent-Range: bytes 4-5/9\r\n\r\nef\r\n--b--\r\n'

export const ranges: CaseGroup = {
  name: 'ranges',
  cases: [
    compared(
      'one range',
      { fields: [['Range', 'bytes=2-5']] },
      answer({
        status: '206 Partial Content',
        fields: [['Content-Range', 'bytes 2-5/9']],
        body: { bytes: 'cdef', framing: 'length' },
      }),
    ),
    compared(
      'several ranges',
      { fields: [['Range', 'bytes=0-1,4-5']] },
      answer({
        status: '206 Partial Content',
        fields: [['Content-Type', 'multipart/byteranges; boundary=b']],
        body: { bytes: SLIDES, framing: 'length' },
      }),
    ),
    compared(
      'unsatisfiable',
      { fields: [['Range', 'bytes=90-']] },
      answer({
        status: '416 Range Not Satisfiable',
        fields: [['Content-Range', 'bytes */9']],
        body: { bytes: '', framing: 'length' },
      }),
    ),
    compared('If-Range and a suffix range', {
      fields: [
        ['Range', 'bytes=-3'],
        ['If-Range', '"strong"'],
      ],
    }),
    compared('Accept-Ranges', {}, textAnswer('x', [['Accept-Ranges', 'bytes']])),
    compared('Content-Range in a PUT', {
      method: 'PUT',
      fields: [['Content-Range', 'bytes 0-2/9']],
      body: { bytes: 'abc', framing: 'length' },
    }),
  ],
}

/** A head that announces five bytes and asks first. */
const EXPECTING: RequestSpec = {
  method: 'PUT',
  fields: [
    ['Expect', '100-continue'],
    ['Content-Length', '5'],
  ],
}

const HINT = 'HTTP/1.1 103 Early Hints\r\nLink: <style.css>; rel=preload\r\n\r\n'

export const interim: CaseGroup = {
  name: 'interim answers',
  cases: [
    compared('103', {}, rawReply(`${HINT}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx`)),
    compared('two 103', {}, rawReply(`${HINT}${HINT}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx`)),
    compared('103 before a 304', {}, rawReply(`${HINT}HTTP/1.1 304 Not Modified\r\n\r\n`)),
    compared(
      '102',
      { method: 'LOCK' },
      rawReply('HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'),
    ),
    compared('103 to HEAD', { method: 'HEAD' }, rawReply(`${HINT}HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n`)),
    verdict('100 comes from the service, and the body only after it', async (stage) => {
      const headSeen = Promise.withResolvers<void>()
      const permission = Promise.withResolvers<void>()
      stage.origin.handle(async (request) => {
        headSeen.resolve()
        await permission.promise
        await request.write('HTTP/1.1 100 Continue\r\n\r\n')
        const { bytes } = await request.readBody()
        await request.reply(textAnswer(`${valuesOf(request.head.fields, 'expect')} ${bytes}`))
      })
      const connection = await stage.connect()
      await connection.write(connection.build(EXPECTING))
      await headSeen.promise
      expect(connection.reader.receivedBytes, 'nobody else may grant it').toBe(0)
      permission.resolve()
      expect((await readResponseHead(connection.reader)).status).toBe(100)
      await connection.write('hello')
      const answer = await connection.readAnswer()
      expect(answer.interim).toEqual([])
      expect(answer.body.bytes.toString()).toBe('100-continue hello')
    }),
    verdict('a refusal in place of 100 arrives, and no body is asked for', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.reply(answer({ status: '417 Expectation Failed', body: { bytes: 'no', framing: 'length' } }))
      })
      const connection = await stage.connect()
      const refused = await connection.exchange(EXPECTING)
      expect(refused.interim).toEqual([])
      expect(refused.head.status).toBe(417)
      expect(refused.body.bytes.toString()).toBe('no')
    }),
    verdict('a visitor that does not wait for 100 loses nothing', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.write('HTTP/1.1 100 Continue\r\n\r\n')
        await request.reply(textAnswer((await request.readBody()).bytes.toString()))
      })
      const connection = await stage.connect()
      await connection.write(connection.build(EXPECTING))
      await connection.write('hello')
      const answer = await connection.readAnswer()
      expect(answer.body.bytes.toString()).toBe('hello')
    }),
    verdict('103 arrives while the answer is still being made', async (stage) => {
      const hintSeen = Promise.withResolvers<void>()
      stage.origin.handle(async (request) => {
        await request.readBody()
        await request.write(HINT)
        await hintSeen.promise
        await request.reply(textAnswer('late'))
      })
      const connection = await stage.connect()
      await connection.write(connection.build({}))
      expect((await readResponseHead(connection.reader)).status).toBe(103)
      hintSeen.resolve()
      expect((await connection.readAnswer()).body.bytes.toString()).toBe('late')
    }),
  ],
}
