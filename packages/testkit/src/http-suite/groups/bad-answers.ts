import { expect } from 'vitest'
import { rawReply, textAnswer } from '../build.ts'
import { type CaseGroup, hopVerdict, type Stage, type VerdictCase } from '../cases.ts'
import { MalformedMessage } from '../message.ts'

const status = (line: string): string => `${line}\r\nContent-Length: 6\r\n\r\nSECRET`
const field = (line: string): string => `HTTP/1.1 200 OK\r\nContent-Length: 6\r\n${line}\r\n\r\nSECRET`
const framing = (lines: string, body = '6\r\nSECRET\r\n0\r\n\r\n'): string =>
  `HTTP/1.1 200 OK\r\n${lines}\r\n\r\n${body}`

/** Heads that are no HTTP/1.1 response or leave open where the body ends: the visitor gets 502 and none of it. */
const REFUSED_HEADS: Readonly<Record<string, string>> = {
  'a banner of another protocol': 'SSH-2.0-OpenSSH_9.2\r\n',
  'a line of rubbish': '\x16\x03\x01\x02\x00\x01\r\n\r\n',
  'an empty first line': `\r\n\r\n${status('HTTP/1.1 200 OK')}`,
  'HTTP/2.0': status('HTTP/2.0 200 OK'),
  'HTTP/1.2 in lower case': status('http/1.1 200 OK'),
  'an ICY status line': status('ICY 200 OK'),
  'no blank after the version': status('HTTP/1.1200 OK'),
  'a status of two digits': status('HTTP/1.1 20 OK'),
  'a status of four digits': status('HTTP/1.1 2000 OK'),
  'a status with a letter': status('HTTP/1.1 2x0 OK'),
  'a status below 100': status('HTTP/1.1 099 OK'),
  'NUL in the reason': status('HTTP/1.1 200 O\0K'),
  'bare LF after the status line': 'HTTP/1.1 200 OK\nContent-Length: 6\r\n\r\nSECRET',
  'bare LF after a field': 'HTTP/1.1 200 OK\r\nX-A: 1\nContent-Length: 6\r\n\r\nSECRET',
  'bare LF throughout': 'HTTP/1.1 200 OK\nContent-Length: 6\n\nSECRET',
  'bare CR in a value': field('X-A: 1\r2'),
  'NUL in a value': field('X-A: 1\x002'),
  'a control character in a name': field('X-\x01: 1'),
  'a blank in a name': field('X A: 1'),
  'a blank before the colon': field('X-A : 1'),
  'a line without a colon': field('no colon here'),
  'an empty name': field(': value'),
  'a folded line': field('X-A: 1\r\n folded'),
  'a blank before the first field': 'HTTP/1.1 200 OK\r\n X-A: 1\r\nContent-Length: 6\r\n\r\nSECRET',
  'length and chunked': framing('Content-Length: 6\r\nTransfer-Encoding: chunked'),
  'two different lengths': framing('Content-Length: 6\r\nContent-Length: 7', 'SECRET!'),
  'a list of different lengths': framing('Content-Length: 6, 7', 'SECRET!'),
  'a negative length': framing('Content-Length: -6', 'SECRET'),
  'a length with a sign': framing('Content-Length: +6', 'SECRET'),
  'a length in hex': framing('Content-Length: 0x6', 'SECRET'),
  'a length with a letter': framing('Content-Length: 6b', 'SECRET'),
  'an empty length': framing('Content-Length:', 'SECRET'),
  'a length past 2^64': framing('Content-Length: 99999999999999999999', 'SECRET'),
  'gzip before chunked': framing('Transfer-Encoding: gzip, chunked'),
  'chunked before identity': framing('Transfer-Encoding: chunked, identity'),
  xchunked: framing('Transfer-Encoding: xchunked'),
  identity: framing('Transfer-Encoding: identity'),
  'chunked twice in one line': framing('Transfer-Encoding: chunked, chunked'),
  'chunked in two lines': framing('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked'),
  'chunked with a vertical tab': framing('Transfer-Encoding: \x0bchunked'),
  'chunked from HTTP/1.0': 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nSECRET\r\n0\r\n\r\n',
  '101 that nobody asked for':
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nSECRET',
  'a thousand interim answers': `${'HTTP/1.1 102 Processing\r\n\r\n'.repeat(1000)}${status('HTTP/1.1 200 OK')}`,
  'a field of 1 MiB': field(`X-Long: ${'v'.repeat(1 << 20)}`),
  '100,000 fields': field(`${'X: 1\r\n'.repeat(100_000)}X: 1`),
}

/** Bodies that break after a good head: the visitor must not take them for whole. */
const BROKEN_BODIES: Readonly<Record<string, string>> = {
  'a chunk size that is no number': 'zz\r\nSECRET\r\n0\r\n\r\n',
  'an empty chunk size': '\r\nSECRET\r\n0\r\n\r\n',
  'a negative chunk size': '-6\r\nSECRET\r\n0\r\n\r\n',
  'a chunk size with 0x': '0x6\r\nSECRET\r\n0\r\n\r\n',
  'a chunk size past 2^64': 'fffffffffffffffff\r\nSECRET\r\n0\r\n\r\n',
  'a chunk longer than its size': '3\r\nSECRET\r\n0\r\n\r\n',
  'bare LF after a chunk size': '6\nSECRET\r\n0\r\n\r\n',
  'bare LF after a chunk': '6\r\nSECRET\n0\r\n\r\n',
  'an endless chunk extension': `6;${'x'.repeat(1 << 20)}\r\nSECRET\r\n0\r\n\r\n`,
  'a folded trailer': '6\r\nSECRET\r\n0\r\nX-A: 1\r\n folded\r\n\r\n',
  'a trailer without a colon': '6\r\nSECRET\r\n0\r\nrubbish\r\n\r\n',
  '1 MiB of trailers': `6\r\nSECRET\r\n0\r\n${'X-A: 1\r\n'.repeat(131_072)}\r\n`,
}

/** Answers that are fine, with bytes behind them that belong to nobody. */
const TAILS: Readonly<Record<string, readonly [bytes: string, method: string, status: number, body: string]>> = {
  'bytes after a known length': ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokSECRET', 'GET', 200, 'ok'],
  'a second answer': [
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSECRET',
    'GET',
    200,
    'ok',
  ],
  'bytes after the last chunk': [
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nSECRET',
    'GET',
    200,
    'ok',
  ],
  'a body behind 204': ['HTTP/1.1 204 No Content\r\n\r\nSECRET', 'GET', 204, ''],
  'a body behind 304': ['HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nSECRET', 'GET', 304, ''],
  'a body behind the answer to HEAD': ['HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSECRET', 'HEAD', 200, ''],
}

function serviceWrites(stage: Stage, bytes: string): void {
  stage.origin.handle(async (request) => {
    await request.readBody()
    await request.reply(request.head.target === '/next' ? textAnswer('next') : rawReply(bytes))
  })
}

/** Whatever came before, the tunnel serves the next request from the right answer. */
async function nextIsServed(stage: Stage): Promise<void> {
  const { body } = await (await stage.connect()).exchange({ target: '/next' })
  expect(body.bytes.toString()).toBe('next')
}

const refusedHead = ([name, bytes]: [string, string]): VerdictCase =>
  hopVerdict(`${name}: 502`, async (stage) => {
    serviceWrites(stage, bytes)
    const { interim, head, body } = await (await stage.connect()).exchange({})
    expect(head.status).toBe(502)
    expect(interim.length).toBeLessThan(1000)
    expect(body.bytes.toString('latin1')).not.toContain('SECRET')
    await nextIsServed(stage)
  })

const brokenBody = ([name, bytes]: [string, string]): VerdictCase =>
  hopVerdict(`${name}: never taken for whole`, async (stage) => {
    serviceWrites(stage, framing('Transfer-Encoding: chunked', bytes))
    const connection = await stage.connect()
    const answer = await connection.exchange({}).catch((error: unknown) => {
      if (error instanceof MalformedMessage) return undefined
      throw error
    })
    if (answer && answer.head.status !== 502) {
      expect(answer.body.complete).toBe(false)
      await connection.waitEnd()
    }
    await nextIsServed(stage)
  })

const tail = ([name, [bytes, method, status, text]]: [string, (typeof TAILS)[string]]): VerdictCase =>
  hopVerdict(`${name}: dropped, and not taken for the next answer`, async (stage) => {
    serviceWrites(stage, bytes)
    const connection = await stage.connect()
    const first = await connection.exchange({ method })
    expect(first.head.status).toBe(status)
    expect(first.body.bytes.toString()).toBe(text)
    expect((await connection.exchange({ target: '/next' })).body.bytes.toString()).toBe('next')
    await nextIsServed(stage)
  })

export const badAnswers: CaseGroup = {
  name: 'answers that break the rules',
  cases: [
    ...Object.entries(REFUSED_HEADS).map(refusedHead),
    ...Object.entries(BROKEN_BODIES).map(brokenBody),
    ...Object.entries(TAILS).map(tail),
  ],
}
