import { expect, test } from 'vitest'
import { BUFFER_BYTES, buffers, ReadBuffers } from '../src/buffers.ts'

const QUIET = buffers.quiet.length

/** Fills a read of the quiet buffer, after which the socket reads into one of its own. */
function busyReader(): ReadBuffers {
  const reader = new ReadBuffers()
  reader.next()
  reader.filled(QUIET)
  return reader
}

test('quiet sockets read into one buffer, whose bytes are copied and never lent', () => {
  const [one, other] = [new ReadBuffers(), new ReadBuffers()]
  expect(one.next()).toBe(other.next())
  expect([one.isTooDear(1), one.headroom]).toEqual([true, 0])
  expect(() => one.lend()).toThrow(/copied/)
})

test('a read that fills the buffer brings a large one with headroom, and 64 short reads take it away', () => {
  const reader = busyReader()
  expect(reader.next().length).toBe(BUFFER_BYTES.large)
  expect(reader.headroom).toBeGreaterThan(0)
  for (let i = 0; i < 64; i++) {
    expect(reader.next().length).toBe(BUFFER_BYTES.large)
    reader.filled(10)
  }
  expect(reader.next()).toBe(buffers.quiet)
})

test('a buffer is read into again at once, and behind what somebody holds of it while half of it is free', () => {
  const reader = busyReader()
  const first = reader.next()
  reader.filled(100)
  expect(reader.next()).toBe(first)
  reader.filled(100)
  const holds = [reader.lend()]
  const second = reader.next()
  expect(second.buffer).toBe(first.buffer)
  expect(second.byteOffset).toBe(first.byteOffset + 100 + reader.headroom)
  expect(second.byteOffset + second.length, 'to its end').toBe(first.byteOffset + first.length)
  reader.filled(BUFFER_BYTES.large / 2)
  holds.push(reader.lend())
  expect(reader.next().buffer).not.toBe(first.buffer)
  for (const giveBack of holds) giveBack()
  reader.close()
})

test('reads are as large as what can be passed on, but no tiny ones', () => {
  const reader = busyReader()
  let room = 300_000
  reader.paceBy(() => room)
  expect(reader.next().length).toBe(300_000)
  reader.filled(10)
  room = 0
  expect(reader.next().length).toBe(256 * 1024)
  reader.close()
})

test('once 8 MiB are lent, small pieces are copied', () => {
  const readers = Array.from({ length: 10 }, busyReader)
  const holds = readers.map((reader) => {
    reader.next()
    reader.filled(600_000)
    return reader.lend()
  })
  for (const reader of readers) reader.next()
  expect(readers.map((reader) => [reader.isTooDear(100), reader.isTooDear(500_000)])).toEqual(
    Array(10).fill([true, false]),
  )
  for (const giveBack of holds) giveBack()
  expect(readers[0]?.isTooDear(100)).toBe(false)
  for (const reader of readers) reader.close()
})

test('the sixty-fifth busy socket gets a medium buffer', () => {
  const readers = Array.from({ length: 65 }, busyReader)
  expect(readers.map((reader) => reader.next().length)).toEqual([
    ...Array(64).fill(BUFFER_BYTES.large),
    BUFFER_BYTES.medium,
  ])
  for (const reader of readers) reader.close()
})
