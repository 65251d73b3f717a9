import type { Limits, LinkStream, OpenInit, StreamEvents, StreamHandler } from '@cyberun/protocol'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { VirtualPair } from './virtual-pair.ts'

const KIB = 1024
const TCP: OpenInit = { target: { kind: 'tcp', port: 8188 }, priority: 'interactive' }
const STREAMS = 6
/** What is held stays within the link's bytes, whatever the steps: nobody may be reset for that. */
const SMALL = {
  initialWindowBytes: 4 * KIB,
  windowBytes: 32 * KIB,
  maxWindowBytes: 32 * KIB,
  linkBytes: 12 * 32 * KIB,
} satisfies Partial<Limits>
/** Their windows together are what a link holds, to the byte. */
const FULL_STREAMS = SMALL.linkBytes / SMALL.windowBytes
const MOST_HELD = 100 * KIB
/** Streams that each leave behind what a new one may send at once: a third more than a link holds. */
const LEFT_STREAMS = (SMALL.linkBytes / SMALL.initialWindowBytes) * (4 / 3)

/** One end of a stream, with what its user did and was told. */
interface Side {
  readonly stream: LinkStream
  readonly written: Buffer[]
  readonly received: Buffer[]
  hasEnded: boolean
  hasReset: boolean
  readonly told: string[]
}

/** Two ends whose users do what a step says, in a way that the rules allow. */
class Users {
  readonly pair: VirtualPair
  /** Both sides of each stream by its id, the one that opened it first. */
  readonly streams: { opener: Side; other: Side | undefined }[] = []
  /** Opened by the peer, and not yet answered. */
  readonly asked: { side: Side; isHeard: boolean }[] = []
  readonly releases: (() => void)[] = []
  heldBytes = 0
  /** What is done with streams of the peer, when it is not up to the steps. */
  #onStream: StreamHandler | undefined
  writes = 0
  told = 0

  constructor() {
    const onStream: StreamHandler = (stream) => {
      if (this.#onStream) return this.#onStream(stream)
      const opened = this.streams.find(({ opener }) => opener.stream.id === stream.id)
      const side = newSide(stream)
      if (opened) opened.other = side
      this.asked.push({ side, isHeard: false })
      return undefined
    }
    this.pair = new VirtualPair({ limits: SMALL, onStream: { dialler: onStream, acceptor: onStream } })
  }

  open(isDialler: boolean): void {
    const { dialler, acceptor } = this.pair
    if (this.alive().length >= STREAMS) return
    const { session } = isDialler ? dialler : acceptor
    const opened: Users['streams'][number] = { opener: newSide(session.open(TCP)), other: undefined }
    this.streams.push(opened)
    this.#hear(opened.opener)
  }

  /** Listens to a stream that the peer opened, accepts it, or refuses it, in any order. */
  answer(which: number, how: 'hear' | 'accept' | 'refuse'): void {
    const at = which % Math.max(1, this.asked.length)
    const asked = this.asked[at]
    if (!asked) return
    if (how === 'refuse') this.reset(asked.side)
    else if (!asked.isHeard) this.#hear(asked.side)
    asked.isHeard = true
    if (how === 'hear') return
    if (how === 'accept') asked.side.stream.accept()
    this.asked.splice(at, 1)
  }

  write(side: Side, bytes: number): void {
    if (side.hasEnded || side.hasReset) return
    const data = Buffer.alloc(bytes, `${side.written.length} of ${side.stream.id} `)
    side.written.push(data)
    this.writes += 1
    side.stream.write(data, () => {
      this.told += 1
    })
  }

  end(side: Side): void {
    side.hasEnded = true
    side.stream.end()
  }

  reset(side: Side): void {
    side.hasReset = true
    side.stream.reset('cancelled')
  }

  /** Sides that may be written to. */
  alive(): Side[] {
    const isAsked = (side: Side) => this.asked.some((asked) => asked.side === side)
    return this.streams
      .flatMap(({ opener, other }) => (other ? [opener, other] : [opener]))
      .filter((side) => !isAsked(side) && !side.told.includes('close'))
  }

  release(): void {
    for (const release of this.releases.splice(0)) release()
    this.heldBytes = 0
  }

  /** Sends one end as much as a link may hold, to readers that hold it all; returns why streams were reset. */
  fill(fromDialler: boolean): string[] {
    this.#onStream = (stream) => {
      stream.accept()
      return { ...NOTHING, onData: (chunk) => void this.releases.push(chunk.hold()) }
    }
    const { session } = fromDialler ? this.pair.dialler : this.pair.acceptor
    const full = Array.from({ length: FULL_STREAMS }, () => newSide(session.open(TCP)))
    for (const side of full) {
      side.stream.listen(eventsOf(side, () => {}))
      side.stream.write(Buffer.alloc(SMALL.windowBytes))
    }
    this.pair.run(1_000)
    const held = this.releases.length
    const resets = full.flatMap(({ told }) => told)
    for (const { stream } of full) stream.reset('cancelled')
    this.pair.run(10)
    this.release()
    return held === 0 ? ['nothing came'] : resets
  }

  /**
   * Sends one end more than a link may hold, on streams that are over before it is consumed, and lets go of what is asked
   * for; returns what a reader who keeps up with it is told meanwhile, and of how many streams was asked for.
   */
  leaveBehind(fromDialler: boolean): { told: string[]; reclaimed: number } {
    const { session } = fromDialler ? this.pair.dialler : this.pair.acceptor
    this.#onStream = (stream) => {
      stream.accept()
      return NOTHING
    }
    const reading = newSide(session.open(TCP))
    reading.stream.listen(eventsOf(reading, () => {}))
    this.pair.run(10)
    const left = new Set<() => void>()
    let reclaimed = 0
    this.#onStream = (stream) => {
      stream.accept()
      const own: (() => void)[] = []
      return {
        ...NOTHING,
        onData(chunk) {
          const release = chunk.hold()
          own.push(release)
          left.add(release)
        },
        onEnd: () => stream.end(),
        onReclaim() {
          reclaimed += 1
          for (const release of own) {
            release()
            left.delete(release)
          }
        },
      }
    }
    for (let count = 0; count < LEFT_STREAMS; count++) {
      const { stream } = newSide(session.open(TCP))
      stream.write(Buffer.alloc(SMALL.initialWindowBytes))
      stream.end()
      reading.stream.write(Buffer.alloc(KIB))
      this.pair.run(5)
    }
    const told = [...reading.told]
    reading.stream.reset('cancelled')
    this.pair.run(10)
    for (const release of left) release()
    return { told, reclaimed }
  }

  #hear(side: Side): void {
    side.stream.listen(
      eventsOf(side, (chunk) => {
        if (this.heldBytes + chunk.bytes.length > MOST_HELD || chunk.bytes.length % 3 !== 0) return
        this.heldBytes += chunk.bytes.length
        this.releases.push(chunk.hold())
      }),
    )
  }
}

const NOTHING: StreamEvents = { onData() {}, onEnd() {}, onReset() {}, onDrain() {} }

function newSide(stream: LinkStream): Side {
  return { stream, written: [], received: [], hasEnded: false, hasReset: false, told: [] }
}

function eventsOf(side: Side, onChunk: (chunk: Parameters<StreamEvents['onData']>[0]) => void): StreamEvents {
  return {
    onData(chunk) {
      onChunk(chunk)
      side.received.push(Buffer.from(chunk.bytes))
    },
    onEnd: () => void side.told.push('end'),
    onReset: (code) => void side.told.push(`reset ${code}`),
    onDrain() {},
    onClose: () => void side.told.push('close'),
  }
}

type Step =
  | { kind: 'open'; isDialler: boolean }
  | { kind: 'hear' | 'accept' | 'refuse' | 'end' | 'reset'; which: number }
  | { kind: 'write'; which: number; bytes: number }
  | { kind: 'release' }
  | { kind: 'run'; ms: number }

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('open' as const), isDialler: fc.boolean() }) },
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constantFrom('hear', 'accept', 'accept', 'refuse', 'end', 'reset'),
        which: fc.nat(20),
      }),
    },
    {
      weight: 8,
      arbitrary: fc.record({ kind: fc.constant('write' as const), which: fc.nat(20), bytes: fc.nat(20_000) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('release' as const) }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('run' as const), ms: fc.nat(5) }) },
  ),
  { minLength: 50, maxLength: 200, size: 'max' },
) as fc.Arbitrary<Step[]>

function take(users: Users, step: Step): void {
  if (step.kind === 'open') users.open(step.isDialler)
  else if (step.kind === 'run') users.pair.run(step.ms)
  else if (step.kind === 'release') users.release()
  else if (step.kind === 'hear' || step.kind === 'accept' || step.kind === 'refuse') users.answer(step.which, step.kind)
  else {
    const alive = users.alive()
    const side = alive[step.which % Math.max(1, alive.length)]
    if (!side) return
    if (step.kind === 'write') users.write(side, step.bytes)
    else users[step.kind](side)
  }
}

test('whatever two users do, what was not reset arrives, all are told once, and the link has all its room again', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const users = new Users()
      const { pair } = users
      for (const step of list) take(users, step)
      while (users.asked.length > 0) users.answer(0, 'accept')
      for (const side of users.alive()) if (!side.hasEnded) users.end(side)
      // Releasing lets more come, which may be held again.
      for (let round = 0; round < 50; round++) {
        pair.run(20)
        users.release()
        while (users.asked.length > 0) users.answer(0, 'refuse')
        for (const side of users.alive()) if (!side.hasEnded) users.end(side)
      }

      expect([pair.dialler.closed, pair.acceptor.closed, pair.dialler.bugs, pair.acceptor.bugs]).toEqual([
        ...[undefined, undefined],
        ...[[], []],
      ])
      expect([pair.dialler.session.streams, pair.acceptor.session.streams]).toEqual([0, 0])
      expect(users.told).toBe(users.writes)
      for (const { opener, other } of users.streams) {
        const sides = other ? [opener, other] : [opener]
        for (const { told } of sides) expect(told.filter((what) => what.startsWith('reset flow'))).toEqual([])
        if (!other || sides.some(({ hasReset }) => hasReset)) continue
        for (const [from, to] of [
          [opener, other],
          [other, opener],
        ] as const) {
          expect(Buffer.concat(to.received).equals(Buffer.concat(from.written))).toBe(true)
          expect(to.told).toEqual(['end', 'close'])
        }
      }
      for (const isDialler of [true, false]) {
        const { told, reclaimed } = users.leaveBehind(isDialler)
        expect(told).toEqual([])
        // One more than what is too much: for a moment the reader's last piece is held, too.
        expect([LEFT_STREAMS / 4, LEFT_STREAMS / 4 + 1]).toContain(reclaimed)
        expect(users.fill(isDialler)).toEqual([])
      }
    }),
    { numRuns: 150 },
  )
})
