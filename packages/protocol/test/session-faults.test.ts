import { encodeFrame, type OpenInit } from '@cyberun/protocol'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { echo, recorder, VirtualPair } from './virtual-pair.ts'

const TCP: OpenInit = { target: { kind: 'tcp', port: 8188 }, priority: 'interactive' }

describe('a peer that breaks the rules', () => {
  const cases: [string, Uint8Array][] = [
    [
      'a second hello',
      encodeFrame({ type: 'hello', hello: { software: 'x', capabilities: [], initialWindow: 1, fields: {} } }),
    ],
    [
      'an open of our ids',
      encodeFrame({ type: 'open', stream: 2, window: 1, priority: 'bulk', target: { kind: 'echo' } }),
    ],
    ['a frame of a stream nobody opened', encodeFrame({ type: 'end', stream: 99 })],
    ['an ack of frames never sent', encodeFrame({ type: 'ack', frames: 1_000 })],
    ['a frame type from the future', Uint8Array.of(77, 0, 0, 0, 0, 0, 0, 0)],
  ]
  test.each(cases)('%s ends the link, and says why', (_, bytes) => {
    const pair = new VirtualPair()
    pair.dialler.inject(bytes)
    pair.run(10)
    expect(pair.acceptor.closed?.code).toBe('protocol_fault')
    expect(pair.dialler.closed).toEqual(pair.acceptor.closed)
  })

  test('pings without end', () => {
    const pair = new VirtualPair()
    for (let i = 0; i < 100; i++) pair.dialler.inject(encodeFrame({ type: 'ping', token: i }))
    pair.run(10)
    expect(pair.acceptor.closed).toMatchObject({ code: 'protocol_fault', message: 'too many pings' })
  })

  test('opens beyond the limits are refused, one by one', () => {
    const pair = new VirtualPair({ limits: { streams: 3 }, onStream: { acceptor: () => recorder() } })
    pair.acceptor.isBlackHole = true
    const open = (id: number) =>
      encodeFrame({ type: 'open', stream: id, window: 9, priority: 'bulk', target: { kind: 'echo' } })
    for (const id of [1, 3, 5, 7]) pair.dialler.inject(open(id))
    pair.run(10)
    expect([pair.acceptor.session.streams, pair.acceptor.closed]).toEqual([3, undefined])
  })

  test('opening and resetting at once, again and again', () => {
    const pair = new VirtualPair({
      limits: { unansweredResetsPerSecond: 10 },
      onStream: { acceptor: () => recorder() },
    })
    for (let i = 0; i < 20; i++) pair.dialler.session.open(TCP, recorder()).reset('cancelled')
    pair.run(10)
    expect(pair.acceptor.closed?.code).toBe('protocol_fault')
  })

  test('random frames never make a session throw, nor hold more than its limits', () => {
    const frame = fc
      .tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 0, max: 9 }), fc.uint8Array({ maxLength: 40 }))
      .map(([type, id, payload]) => Buffer.concat([Buffer.from([type, 0, 0, payload.length, 0, 0, 0, id]), payload]))
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 30 }), (frames) => {
        const pair = new VirtualPair({ onStream: { acceptor: echo } })
        pair.dialler.inject(
          encodeFrame({ type: 'open', stream: 1, window: 9, priority: 'bulk', target: { kind: 'echo' } }),
        )
        pair.dialler.inject(new Uint8Array(Buffer.concat(frames)))
        pair.run(50)
        expect(pair.acceptor.bugs).toEqual([])
      }),
      { numRuns: 300 },
    )
  })
})
