import { expect } from 'vitest'
import { writeUntilStalled } from '../../stall.ts'
import { answer, type BodySpec } from '../build.ts'
import { type CaseGroup, type Stage, type VerdictCase, verdict } from '../cases.ts'
import { median } from '../measure.ts'
import { type Framing, readResponseBody, readResponseHead } from '../message.ts'
import type { ServedRequest } from '../origin.ts'

/** Whatever a body is and however it is framed, it must arrive while the rest is still being made. */
const CONTENT_TYPES = [
  'text/event-stream',
  'text/html; charset=utf-8',
  'application/x-ndjson',
  'multipart/x-mixed-replace; boundary=frame',
  'application/octet-stream',
]
const PIECES = ['first piece\n', 'second\n', 'the last\n']
const TOTAL = PIECES.join('').length

const headWith = (contentType: string, framing: Framing): string => {
  const frame = {
    length: `Content-Length: ${TOTAL}\r\n`,
    chunked: 'Transfer-Encoding: chunked\r\n',
    close: '',
    none: '',
  }
  return `HTTP/1.1 200 OK\r\nContent-Type: ${contentType}\r\n${frame[framing]}\r\n`
}
const framed = (text: string, framing: Framing): string =>
  framing === 'chunked' ? `${text.length.toString(16)}\r\n${text}\r\n` : text

/** Writes the pieces one by one, each only once the visitor has the one before. */
async function dribble(
  request: ServedRequest,
  contentType: string,
  framing: Framing,
  seen: Promise<void>[],
): Promise<void> {
  await request.readBody()
  await request.write(headWith(contentType, framing))
  for (const [i, piece] of PIECES.entries()) {
    await seen[i]
    await request.write(framed(piece, framing))
  }
  await seen[PIECES.length]
  if (framing === 'chunked') await request.write('0\r\n\r\n')
  if (framing === 'close') request.socket.end()
}

function arrivesPieceByPiece(contentType: string, framing: Framing): VerdictCase {
  return verdict(`${contentType.split(';')[0]}, framing ${framing}`, async (stage) => {
    const seen = Array.from({ length: PIECES.length + 1 }, () => Promise.withResolvers<void>())
    stage.origin.handle((request) =>
      dribble(
        request,
        contentType,
        framing,
        seen.map(({ promise }) => promise),
      ),
    )
    const connection = await stage.connect()
    await connection.write(connection.build({}))
    const head = await readResponseHead(connection.reader)
    const chunked = head.fields.some(([name]) => name.toLowerCase() === 'transfer-encoding')
    for (const [i, piece] of PIECES.entries()) {
      seen[i]?.resolve()
      if (chunked) await connection.reader.readLine()
      expect((await connection.reader.readExact(piece.length)).toString()).toBe(piece)
      if (chunked) await connection.reader.readLine()
    }
    seen[PIECES.length]?.resolve()
    if (chunked) expect(await connection.reader.readLine()).toBe('0')
  })
}

/** More than windows and kernels hold together, in bytes. */
const MOST_BUFFERED = 128 << 20

const EVENTS = 21

/** How long each of `EVENTS` events took from the service's write to the visitor, in milliseconds. */
async function eventDelays(stage: Stage): Promise<number[]> {
  const wanted: { resolve: () => void; promise: Promise<void> }[] = Array.from({ length: EVENTS }, () =>
    Promise.withResolvers<void>(),
  )
  const writtenAt: number[] = []
  stage.origin.handle(async (request) => {
    await request.readBody()
    await request.write(headWith('text/event-stream', 'chunked'))
    for (const [i, { promise }] of wanted.entries()) {
      await promise
      writtenAt.push(performance.now())
      await request.write(framed(`data: ${i}\n\n`, 'chunked'))
    }
  })
  const connection = await stage.connect()
  await connection.write(connection.build({ fields: [['Accept', 'text/event-stream']] }))
  await readResponseHead(connection.reader)
  const delays: number[] = []
  for (const [i, { resolve }] of wanted.entries()) {
    resolve()
    let text = ''
    while (!text.endsWith(`data: ${i}\n\n\r\n`)) text += await connection.reader.readSome()
    delays.push(performance.now() - (writtenAt[i] ?? Number.NaN))
  }
  return delays
}

const upload = (framing: BodySpec['framing']): VerdictCase =>
  verdict(`an upload arrives piece by piece, framing ${framing}`, async (stage) => {
    const seen = PIECES.map(() => Promise.withResolvers<void>())
    stage.origin.handle(async (request) => {
      for (const [i, piece] of PIECES.entries()) {
        let text = ''
        while (!text.includes(piece)) text += await request.reader.readSome()
        seen[i]?.resolve()
      }
      await request.reply(
        answer({
          status: '201 Created',
          fields: [
            ['Connection', 'close'],
            ['Content-Length', '0'],
          ],
        }),
      )
    })
    const connection = await stage.connect()
    const field = framing === 'length' ? ['Content-Length', String(TOTAL)] : ['Transfer-Encoding', 'chunked']
    await connection.write(connection.build({ method: 'POST', fields: [[field[0] ?? '', field[1] ?? '']] }))
    for (const [i, piece] of PIECES.entries()) {
      await connection.write(framed(piece, framing))
      await seen[i]?.promise
    }
    if (framing === 'chunked') await connection.write('0\r\n\r\n')
    expect((await connection.readAnswer('POST')).head.status).toBe(201)
  })

export const streaming: CaseGroup = {
  name: 'streaming',
  cases: [
    ...CONTENT_TYPES.flatMap((type) =>
      (['chunked', 'length', 'close'] as const).map((framing) => arrivesPieceByPiece(type, framing)),
    ),
    upload('length'),
    upload('chunked'),
    verdict('an event reaches the visitor within 20 ms', async (stage) => {
      expect(median(await eventDelays(stage))).toBeLessThanOrEqual(20)
    }),
    verdict('an answer that begins while the upload goes on', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n')
        const { bytes } = await request.readBody()
        await request.write(`${framed(bytes.toString(), 'chunked')}0\r\n\r\n`)
      })
      const connection = await stage.connect()
      await connection.write(connection.build({ method: 'POST', fields: [['Content-Length', '4']] }))
      const head = await readResponseHead(connection.reader)
      await connection.write('more')
      const body = await readResponseBody(connection.reader, 'POST', head)
      expect(body).toMatchObject({ complete: true })
      expect(body.bytes.toString()).toBe('yesmore')
    }),
    verdict('an early refusal reaches a visitor that is still sending', async (stage) => {
      stage.origin.handle((request) =>
        request.reply(
          answer({
            status: '413 Too Large',
            fields: [
              ['Connection', 'close'],
              ['Content-Length', '0'],
            ],
          }),
        ),
      )
      const connection = await stage.connect()
      await connection.write(connection.build({ method: 'POST', fields: [['Content-Length', '1000000']] }))
      expect((await connection.readAnswer('POST')).head.status).toBe(413)
    }),
    verdict('a visitor that never reads holds the service back', async (stage) => {
      const taken = Promise.withResolvers<number>()
      stage.origin.handle(async (request) => {
        await request.write('HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n')
        taken.resolve(await writeUntilStalled(request.socket, MOST_BUFFERED))
      })
      const connection = await stage.connect()
      await connection.write(connection.build({}))
      await readResponseHead(connection.reader)
      connection.socket.pause()
      expect(await taken.promise).toBeLessThan(MOST_BUFFERED)
    }),
    verdict('a service that never reads holds its visitor back', async (stage) => {
      const asked = Promise.withResolvers<void>()
      const over = Promise.withResolvers<void>()
      stage.origin.handle(async (request) => {
        request.socket.pause()
        asked.resolve()
        await over.promise
      })
      const connection = await stage.connect()
      await connection.write(connection.build({ method: 'PUT', fields: [['Content-Length', '9999999999']] }))
      await asked.promise
      expect(await writeUntilStalled(connection.socket, MOST_BUFFERED)).toBeLessThan(MOST_BUFFERED)
      over.resolve()
    }),
  ],
}
