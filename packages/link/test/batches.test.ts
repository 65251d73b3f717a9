import type { LinkStream } from '@cyberun/protocol'
import { expect, test } from 'vitest'
import { connectPair } from './pair.ts'

/** Around the border between a small batch and a larger one, and beyond what is gathered at all. */
const SIZES = [1, 100, 521, 522, 523, 3, 600, 7, 4000, 2, 9000, 1, 530, 5]

test('what is written in one turn of the loop arrives in its order, however a batch has to grow', async () => {
  const served = Promise.withResolvers<LinkStream>()
  await using pair = await connectPair({
    onServerStream: (stream) => {
      stream.accept()
      served.resolve(stream)
      return undefined
    },
  })
  const near = pair.client.open({ target: { kind: 'echo' }, priority: 'interactive' })
  const far = await served.promise
  const got: Uint8Array[] = []
  const ended = new Promise<void>((resolve) => {
    far.listen({ onData: ({ bytes }) => got.push(Uint8Array.from(bytes)), onEnd: resolve, onReset() {}, onDrain() {} })
  })
  await near.accepted
  const pieces = SIZES.flatMap((size, first) => [...SIZES, size].map((length, at) => Buffer.alloc(length, first + at)))
  for (const piece of pieces) near.write(piece)
  near.end()
  await ended
  expect(Buffer.concat(got).equals(Buffer.concat(pieces))).toBe(true)
})
