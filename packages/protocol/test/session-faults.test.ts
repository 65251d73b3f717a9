import {
  encodeFrame,
  FRAME_HEADER_BYTES,
  LIMITS,
  type LinkStream,
  type OpenInit,
  Session,
  writeDataHeader,
} from '@cyberun/protocol'
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

  test('random frames never make a session throw', () => {
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

  test('frames that each make sense, in any order, never make it throw nor hold more than its limits', () => {
    fc.assert(
      fc.property(fc.array(hostileSteps, { minLength: 100, maxLength: 300, size: 'max' }), (steps) => {
        const end = new HostileWorld()
        for (const step of steps) {
          end.take(step)
          expect(end.session.streams).toBeLessThanOrEqual(HOSTILE_LIMITS.streams)
          expect(end.heldBytes).toBeLessThanOrEqual(HOSTILE_LIMITS.linkBytes + HOSTILE_LIMITS.frameBytes)
        }
        expect(end.bugs).toEqual([])
        end.leave()
        expect([end.session.streams, end.writes]).toEqual([0, end.told])
        for (const told of end.ends.values()) expect(told).toEqual(['close'])
      }),
      { numRuns: 300 },
    )
  })
})

const HOSTILE_LIMITS = {
  ...LIMITS,
  frameBytes: 8_192,
  streams: 8,
  initialWindowBytes: 1_024,
  windowBytes: 4_096,
  maxWindowBytes: 8_192,
  linkBytes: 16_384,
}

/** What a peer says of one of its streams, of one of ours, or of the link; `which` names a stream that was opened. */
type HostileStep =
  | { from: 'peer'; what: 'open'; window: number }
  | { from: 'peer'; what: 'data'; which: number; bytes: number; cut: number }
  | { from: 'peer'; what: 'credit' | 'end' | 'reset'; which: number; bytes: number }
  | { from: 'peer'; what: 'ping' | 'pong'; token: number }
  | { from: 'owner'; what: 'accept' | 'listen' | 'write' | 'end' | 'reset' | 'open' | 'release'; which: number }
  | { from: 'time'; ms: number }

const peer = fc.constant('peer' as const)
const which = fc.nat(9)
const hostileSteps: fc.Arbitrary<HostileStep> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ from: peer, what: fc.constant('open' as const), window: fc.nat(3_000) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      ...{ from: peer, what: fc.constant('data' as const), which },
      ...{ bytes: fc.nat(1_200), cut: fc.nat(1_200) },
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      ...{ from: peer, what: fc.constantFrom('credit', 'end', 'reset'), which },
      bytes: fc.integer({ min: 1, max: 5_000 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ from: peer, what: fc.constantFrom('ping', 'pong'), token: fc.nat(9) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      ...{ from: fc.constant('owner' as const), which },
      what: fc.constantFrom('accept', 'accept', 'listen', 'write', 'end', 'reset', 'open', 'release'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ from: fc.constant('time' as const), ms: fc.nat(900) }) },
)

/** A session whose peer sends what it likes, and whose owner does what the rules allow. */
class HostileWorld {
  readonly session: Session
  readonly bugs: unknown[] = []
  /** What each stream that is listened to was told at its end. */
  readonly ends = new Map<LinkStream, string[]>()
  heldBytes = 0
  writes = 0
  told = 0
  #now = 0
  #nextId = 1
  readonly #streams: { stream: LinkStream; isAccepted: boolean; isHeard: boolean; hasEnded: boolean }[] = []
  readonly #releases: (() => void)[] = []

  constructor() {
    this.session = new Session({
      role: 'acceptor',
      limits: HOSTILE_LIMITS,
      now: () => this.#now,
      host: {
        outputReady: () => {},
        takeShort: () => false,
        onHello: () => void this.session.welcome('test/1', {}),
        onWelcome() {},
        onStream: (stream) => {
          this.#streams.push({ stream, isAccepted: false, isHeard: false, hasEnded: false })
          return undefined
        },
        onGoingAway() {},
        onClosed() {},
        onBug: (error) => this.bugs.push(error),
      },
    })
    const hello = { software: 'x', capabilities: [], initialWindow: 2_000, fields: {} }
    this.session.receive(encodeFrame({ type: 'hello', hello }))
  }

  take(step: HostileStep): void {
    if (step.from === 'peer') this.#receive(step)
    else if (step.from === 'owner') this.#act(step.what, step.which)
    else {
      this.#now += step.ms
      this.session.tick()
    }
    this.#drain()
  }

  /** The link is lost, and everything held is given back. */
  leave(): void {
    for (const one of this.#streams) this.#hear(one)
    this.session.lost({ code: 'transport', message: 'the test is over' })
    this.#release()
    this.#drain()
  }

  #receive(step: HostileStep & { from: 'peer' }): void {
    if (step.what === 'open') {
      const target = { kind: 'tcp', port: 80 } as const
      this.session.receive(
        encodeFrame({ type: 'open', stream: this.#nextId, window: step.window, priority: 'bulk', target }),
      )
      this.#nextId += 2
      return
    }
    if ('token' in step) {
      this.session.receive(encodeFrame({ type: step.what, token: step.token }))
      return
    }
    const id = this.#streams[step.which % Math.max(1, this.#streams.length)]?.stream.id
    if (id === undefined) return
    if (step.what === 'data') this.#receiveData(id, step.bytes, step.cut)
    else if (step.what === 'end') this.session.receive(encodeFrame({ type: 'end', stream: id }))
    else if (step.what === 'reset') this.session.receive(encodeFrame({ type: 'reset', stream: id, code: 'cancelled' }))
    else this.session.receive(encodeFrame({ type: 'credit', stream: id, bytes: step.bytes }))
  }

  #receiveData(stream: number, bytes: number, cut: number): void {
    const frame = new Uint8Array(FRAME_HEADER_BYTES + bytes)
    writeDataHeader(frame, 0, bytes, stream)
    const at = cut % frame.length
    this.session.receive(frame.subarray(0, at))
    this.session.receive(frame.subarray(at))
  }

  #act(what: (HostileStep & { from: 'owner' })['what'], which: number): void {
    if (what === 'release') {
      this.#release()
      return
    }
    if (what === 'open') {
      if (this.session.streams < HOSTILE_LIMITS.streams && !this.#isClosed) {
        const stream = this.session.open(TCP)
        this.#streams.push({ stream, isAccepted: true, isHeard: false, hasEnded: false })
      }
      return
    }
    const one = this.#streams[which % Math.max(1, this.#streams.length)]
    if (!one) return
    if (what === 'listen') this.#hear(one)
    else if (what === 'reset') one.stream.reset('cancelled')
    else if (what === 'accept') {
      if (!one.isAccepted) one.stream.accept()
      one.isAccepted = true
    } else if (one.isAccepted && !one.hasEnded) {
      if (what === 'write') this.#write(one.stream)
      else one.stream.end()
      one.hasEnded = what === 'end'
    }
  }

  #write(stream: LinkStream): void {
    this.writes += 1
    stream.write(new Uint8Array(1_000), () => {
      this.told += 1
    })
  }

  #hear(one: { stream: LinkStream; isHeard: boolean }): void {
    if (one.isHeard) return
    one.isHeard = true
    const told: string[] = []
    this.ends.set(one.stream, told)
    one.stream.listen({
      onData: (chunk) => {
        const release = chunk.hold()
        const { length } = chunk.bytes
        this.heldBytes += length
        this.#releases.push(() => {
          this.heldBytes -= length
          release()
        })
      },
      onEnd() {},
      onReset() {},
      onDrain() {},
      onClose: () => void told.push('close'),
    })
  }

  #release(): void {
    for (const release of this.#releases.splice(0)) release()
  }

  get #isClosed(): boolean {
    return this.session.nextDeadline() === Number.POSITIVE_INFINITY
  }

  /** The peer reads all that it is sent. */
  #drain(): void {
    for (let frame = this.session.nextFrame(); frame; frame = this.session.nextFrame()) {
      if (frame.kind === 'data') frame.write.pieceWritten()
    }
  }
}
