import { createHash, type Hash } from 'node:crypto'
import { expect } from 'vitest'
import type { SocketReader } from '../../socket-reader.ts'
import { pattern, textAnswer, toBuffer } from '../build.ts'
import { type CaseGroup, verdict } from '../cases.ts'
import { readResponseHead } from '../message.ts'

const BLOCK_BYTES = 1 << 20

/** Writes `blocks` MiB, each block different, as fast as the other side takes them. Resolves to their hash. */
async function produce(blocks: number, write: (bytes: Uint8Array) => Promise<void>): Promise<string> {
  const hash = createHash('sha256')
  const block = pattern(BLOCK_BYTES)
  for (let i = 0; i < blocks; i++) {
    block.writeUInt32BE(i, (i * 4096) % BLOCK_BYTES)
    hash.update(block)
    await write(block)
  }
  return hash.digest('hex')
}

/** Reads exactly `length` bytes into `hash`; fewer only when they end early. */
async function consume(reader: SocketReader, length: number, hash: Hash): Promise<number> {
  let got = 0
  while (got < length) {
    const bytes = await reader.readSome(length - got)
    if (!bytes) break
    hash.update(bytes)
    got += bytes.length
  }
  return got
}

/** Reads a chunked body into `hash` without keeping it; resolves to its length. */
async function consumeChunks(reader: SocketReader, hash: Hash): Promise<number> {
  let total = 0
  for (;;) {
    const length = Number.parseInt((await reader.readLine()) ?? '', 16)
    if (!(length > 0)) return total
    total += await consume(reader, length, hash)
    await reader.readLine()
  }
}

/** Beyond this a connection is slower than 10 MiB/s. */
const TIMEOUT_MS = 120_000

/** `blocks` MiB each way, compared by hash and never kept. */
export const bulk = (blocks: number): CaseGroup => {
  const total = blocks * BLOCK_BYTES
  return {
    name: `${blocks} MiB by hash`,
    cases: [
      verdict('down, by length', async (stage) => {
        let sent: Promise<string> | undefined
        stage.origin.handle(async (request) => {
          await request.readBody()
          await request.write(`HTTP/1.1 200 OK\r\nContent-Length: ${total}\r\n\r\n`)
          sent = produce(blocks, request.write)
          await sent
        })
        const connection = await stage.connect()
        await connection.write(connection.build({}))
        await readResponseHead(connection.reader)
        const hash = createHash('sha256')
        expect(await consume(connection.reader, total, hash)).toBe(total)
        expect(hash.digest('hex')).toBe(await sent)
      }),
      verdict('up, by length', async (stage) => {
        stage.origin.handle(async (request) => {
          const hash = createHash('sha256')
          const got = await consume(request.reader, total, hash)
          await request.reply(textAnswer(`${got} ${hash.digest('hex')}`, [['Connection', 'close']]))
        })
        const connection = await stage.connect()
        await connection.write(connection.build({ method: 'PUT', fields: [['Content-Length', String(total)]] }))
        const sent = await produce(blocks, (bytes) => connection.write(bytes))
        expect((await connection.readAnswer('PUT')).body.bytes.toString()).toBe(`${total} ${sent}`)
      }),
      verdict('up and down at once, chunked', async (stage) => {
        const half = blocks >> 2
        const chunk = toBuffer(`${BLOCK_BYTES.toString(16)}\r\n`)
        const framed = (write: (bytes: Uint8Array) => Promise<void>) => async (bytes: Uint8Array) => {
          await write(Buffer.concat([chunk, bytes, toBuffer('\r\n')]))
        }
        const service = Promise.withResolvers<{ sent: string; got: string }>()
        stage.origin.handle(async (request) => {
          await request.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n')
          const hash = createHash('sha256')
          const [sent] = await Promise.all([produce(half, framed(request.write)), consumeChunks(request.reader, hash)])
          await request.write('0\r\n\r\n')
          service.resolve({ sent, got: hash.digest('hex') })
        })
        const connection = await stage.connect()
        await connection.write(connection.build({ method: 'POST', fields: [['Transfer-Encoding', 'chunked']] }))
        const uploading = produce(
          half,
          framed((bytes) => connection.write(bytes)),
        ).then(async (hash) => {
          await connection.write('0\r\n\r\n')
          return hash
        })
        await readResponseHead(connection.reader)
        const hash = createHash('sha256')
        expect(await consumeChunks(connection.reader, hash)).toBe(half * BLOCK_BYTES)
        const { sent, got } = await service.promise
        expect(hash.digest('hex')).toBe(sent)
        expect(got).toBe(await uploading)
      }),
    ].map((one) => ({ ...one, timeoutMs: TIMEOUT_MS })),
  }
}
