import { PassThrough } from 'node:stream'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readLines } from '../../src/tools/lines.ts'

async function read(bytes: Buffer, sizes: readonly number[] = []) {
  const stream = new PassThrough()
  const lines: string[] = []
  const redraws: string[] = []
  readLines(
    stream,
    (line) => lines.push(line),
    (text) => redraws.push(text),
  )
  let from = 0
  for (const size of sizes) {
    stream.write(bytes.subarray(from, from + size))
    from += size
    // A write of its own reaches the reader on its own.
    await new Promise((resolve) => setImmediate(resolve))
  }
  stream.end(bytes.subarray(from))
  await new Promise((resolve) => stream.once('end', resolve))
  return { lines, redraws }
}

test('how the bytes are cut never matters', async () => {
  const line = fc.string({ unit: 'grapheme', maxLength: 8 }).map((text) => text.replace(/[\r\n]/g, ''))
  await fc.assert(
    fc.asyncProperty(
      fc.array(line, { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 9 })),
      async (sent, sizes) => {
        const bytes = Buffer.from(sent.map((text) => `${text}\n`).join(''))
        expect((await read(bytes, sizes)).lines).toEqual(sent.map((text) => text.toWellFormed()))
      },
    ),
    { numRuns: 50 },
  )
})

test('what is no UTF-8 is replaced, and a last line needs no end', async () => {
  expect((await read(Buffer.from([0x61, 0xff, 0x0a, 0xe2, 0x82]))).lines).toEqual(['a\ufffd', '\ufffd'])
})

test('a line that is overwritten counts once, as it was left, and its redraws are told', async () => {
  const bars = Buffer.from('10%\r20%\rdone\r\nnext\r\n')
  expect((await read(bars)).lines).toEqual(['done', 'next'])
  expect((await read(bars, [4, 4])).redraws).toEqual(['10%', '20%'])
})

test('a line without end is cut, and the next one is whole', async () => {
  const { lines } = await read(Buffer.from(`${'x'.repeat(1_000_000)}\nnext\n`), [100_000, 100_000])
  expect(lines.map((line) => line.length)).toEqual([16 * 1024 + 1, 4])
})
