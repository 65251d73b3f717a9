import { type LinkStream, StreamResetError } from '@cyberun/protocol'
import { expect, test } from 'vitest'
import { StreamChannel } from '../src/stream-channel.ts'
import { connectPair } from './pair.ts'

const ARTIFACT = { target: { kind: 'echo' }, priority: 'bulk' } as const

/** Two ends of one stream over a real link. */
async function channelPair() {
  const served = Promise.withResolvers<LinkStream>()
  const pair = await connectPair({
    onServerStream: (stream) => {
      stream.accept()
      served.resolve(stream)
      return undefined
    },
  })
  const near = pair.client.open(ARTIFACT)
  const far = await served.promise
  return {
    near: new StreamChannel(near),
    far: new StreamChannel(far),
    pair,
    [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose](),
  }
}

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Uint8Array[] = []
  for await (const piece of pieces) copies.push(Uint8Array.from(piece))
  return Buffer.concat(copies)
}

test('a line, then counted bytes, then a line again', async () => {
  await using ends = await channelPair()
  await ends.near.write(Buffer.from('{"size":5}\nhello{"more":1}\nrest'))
  ends.near.end()
  expect(await ends.far.readLine(100)).toBe('{"size":5}')
  expect((await collect(ends.far.read(5))).toString()).toBe('hello')
  expect(await ends.far.readLine(100)).toBe('{"more":1}')
  expect((await collect(ends.far.read())).toString()).toBe('rest')
  expect(await ends.far.readLine(100), 'the end').toBeUndefined()
})

test('what arrived before the stream closed can be read afterwards', async () => {
  await using ends = await channelPair()
  await ends.near.write(Buffer.from('all of it'))
  ends.near.end()
  ends.far.end()
  expect((await collect(ends.near.read())).length).toBe(0)
  expect((await collect(ends.far.read())).toString()).toBe('all of it')
})

test('a slow reader slows the writer down, and every byte arrives', async () => {
  await using ends = await channelPair()
  const size = 64 * 1024 * 1024
  let written = 0
  const writing = (async () => {
    for (; written < size; written += 1024 * 1024) await ends.near.write(Buffer.alloc(1024 * 1024, written >>> 20))
    ends.near.end()
  })()
  expect((await collect(ends.far.read(1))).length).toBe(1)
  expect(written, 'the writer waits for the reader').toBeLessThan(size)
  const rest = await collect(ends.far.read())
  await writing
  expect(rest.length).toBe(size - 1)
  expect(rest[rest.length - 1]).toBe(63)
})

test('a reset of either end reaches the reader and the writer', async () => {
  await using ends = await channelPair()
  const reading = ends.far.readLine(100)
  ends.near.reset('cancelled')
  await expect(reading).rejects.toThrow(StreamResetError)
  await expect(ends.near.write(Buffer.from('x'))).rejects.toThrow(StreamResetError)
  await expect(ends.far.write(Buffer.from('x'))).rejects.toThrow(StreamResetError)
  await expect(collect(ends.far.read())).rejects.toThrow('cancelled')
})

test('a lost link ends what waits', async () => {
  await using ends = await channelPair()
  const reading = ends.far.readLine(100)
  ends.pair.client.close({ code: 'done', message: 'gone' })
  await expect(reading).rejects.toThrow(StreamResetError)
})

test('a line beyond the bound is refused', async () => {
  await using ends = await channelPair()
  await ends.near.write(Buffer.from(`${'x'.repeat(101)}\n`))
  await expect(ends.far.readLine(100)).rejects.toThrow('100 bytes at most')
})
