import { DialError, type DialFailure, encodeLine, type Link, type LinkStream, type StreamEvents } from '@cyberun/link'
import { createLog } from '@cyberun/link/log'
import type { CloseReason } from '@cyberun/protocol'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type AgentExit, type AgentState, type Keeper, keepLinked } from '../src/keep-linked.ts'
import type { Disturbance } from '../src/wake.ts'

/** The keeping of links in virtual time: dials and links are answered by hand. */

const GREETING = { software: 'test', capabilities: [], initialWindow: 0, fields: {} }
const STATS = { comfyui_version: null, pytorch_version: null, os_type: 'linux', gpu_devices: [] }

/** A link whose end, and whose server's answers to heartbeats, are up to the test. */
class HandLink implements Link {
  readonly welcome = GREETING
  readonly roundTripMs = undefined
  readonly stats = { bytesIn: 0, bytesOut: 0, streams: 0, queuedBytes: 0 }
  readonly #closed = Promise.withResolvers<CloseReason>()
  readonly #goingAway = Promise.withResolvers<CloseReason>()
  readonly closed = this.#closed.promise
  readonly goingAway = this.#goingAway.promise
  isClosed = false
  answers = true
  heartbeats = 0

  open(init: LinkStream['init'], events?: StreamEvents): LinkStream {
    return {
      id: 1,
      init,
      accepted: Promise.resolve(),
      queuedBytes: 0,
      listen() {},
      accept() {},
      write: (bytes) => {
        this.heartbeats++
        const { sequence } = JSON.parse(Buffer.from(bytes).toString()) as { sequence: number }
        const answer = encodeLine({ type: 'heartbeat_ok', sequence })
        if (this.answers) queueMicrotask(() => events?.onData({ bytes: answer, headroom: 0, hold: () => () => {} }))
        return true
      },
      pass: () => true,
      end() {},
      reset() {},
    }
  }

  leave(reason: CloseReason): void {
    this.#goingAway.resolve(reason)
  }

  goAway(): void {}

  close(reason: CloseReason): void {
    this.isClosed = true
    this.#goingAway.resolve(reason)
    this.#closed.resolve(reason)
  }
}

interface Scene {
  readonly exit: Promise<AgentExit>
  readonly states: AgentState[]
  readonly links: HandLink[]
  /** Virtual milliseconds at which dials began. */
  readonly dialledAt: number[]
  stop(): void
  disturb(what: Disturbance): void
  readonly link: HandLink
}

type Outcome = DialFailure | 'link'

/** Runs `keepLinked` with dials that end as `outcomes` say, the last one for ever. */
function scene(outcomes: readonly Outcome[], random = 0.999): Scene {
  const links: HandLink[] = []
  const states: AgentState[] = []
  const dialledAt: number[] = []
  const listeners = new Set<(what: Disturbance) => void>()
  const stop = new AbortController()
  const started = Date.now()
  const keeper: Keeper = {
    async dial() {
      const outcome = outcomes[Math.min(dialledAt.length, outcomes.length - 1)] ?? 'link'
      dialledAt.push(Date.now() - started)
      if (outcome !== 'link') throw new DialError(outcome)
      const link = new HandLink()
      links.push(link)
      return link
    },
    machine: {
      systemStats: () => STATS,
      tools: () => [],
      freeSlots: () => 0,
      inventory: () => [],
      onChange: () => () => {},
    },
    onLink() {},
    onDisturbance(tell) {
      listeners.add(tell)
      return () => void listeners.delete(tell)
    },
    onState: (state) => void states.push(state),
    log: createLog({ level: 'silent', format: 'json' }),
    signal: stop.signal,
    now: () => Date.now(),
    random: () => random,
  }
  return {
    exit: keepLinked(keeper),
    states,
    links,
    dialledAt,
    stop: () => stop.abort(),
    disturb(what) {
      for (const tell of [...listeners]) tell(what)
    },
    get link() {
      const link = links.at(-1)
      if (!link) throw new Error('no link yet')
      return link
    },
  }
}

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms)
const REFUSED: DialFailure = { kind: 'network', code: 'ECONNREFUSED' }
const SERVER_BUSY: DialFailure = { kind: 'http', status: 503, message: 'busy' }

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('dialling', () => {
  test('begins at once, and stopping ends it', async () => {
    const run = scene(['link'])
    await pass(0)
    expect(run.dialledAt).toEqual([0])
    expect(run.states.map(({ kind }) => kind)).toEqual(['dialling', 'linked'])
    run.stop()
    expect(await run.exit).toEqual({ kind: 'stopped' })
    expect(run.link.isClosed).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('that succeeds just as the run is stopped leaves no link', async () => {
    const run = scene(['link'])
    while (run.dialledAt.length === 0) await Promise.resolve()
    run.stop()
    expect(await run.exit).toEqual({ kind: 'stopped' })
    expect(run.links.map(({ isClosed }) => isClosed)).toEqual([true])
  })

  test('backs off to 30 s from a server that says no', async () => {
    const run = scene([SERVER_BUSY])
    await pass(100_000)
    const waits = run.dialledAt.slice(1).map((at, index) => at - (run.dialledAt[index] ?? 0))
    const longest = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
    expect(waits.map((wait) => Math.round(wait / 0.999 / 10) * 10)).toEqual(longest)
    run.stop()
    await run.exit
  })

  test('is eager for two minutes where nobody answers', async () => {
    const run = scene([REFUSED])
    await pass(119_000)
    expect(run.dialledAt.length).toBeGreaterThan(140)
    const before = run.dialledAt.length
    await pass(300_000)
    expect(run.dialledAt.length - before).toBeLessThan(15)
    run.stop()
    await run.exit
  })

  test('waits as long as the server asks for', async () => {
    const run = scene([{ ...SERVER_BUSY, retryAfterMs: 7_000 }, 'link'], 0)
    await pass(6_999)
    expect(run.dialledAt).toEqual([0])
    await pass(1)
    expect(run.dialledAt).toEqual([0, 7_000])
    run.stop()
    await run.exit
  })

  test('goes on at once when the machine wakes up or changes its network, unless the server asked for time', async () => {
    const run = scene([
      SERVER_BUSY,
      SERVER_BUSY,
      SERVER_BUSY,
      SERVER_BUSY,
      SERVER_BUSY,
      { ...SERVER_BUSY, retryAfterMs: 9_000 },
    ])
    await pass(5_000)
    const before = run.dialledAt.length
    run.disturb('network_changed')
    await pass(0)
    expect(run.dialledAt.length).toBe(before + 1)
    run.disturb('slept')
    await pass(0)
    expect(run.dialledAt.length).toBe(before + 1)
    run.stop()
    await run.exit
  })

  const finals: readonly [what: string, failure: DialFailure, exit: AgentExit][] = [
    [
      'a key that is not known',
      { kind: 'http', status: 401, message: 'unknown key' },
      { kind: 'bad_key', message: 'unknown key' },
    ],
    [
      'a hello that is not valid',
      { kind: 'refused', reason: { code: 'refused', message: 'labels' } },
      { kind: 'refused', message: 'labels' },
    ],
    [
      'a version that is not spoken',
      { kind: 'refused', reason: { code: 'unsupported_version', message: 'v9' } },
      { kind: 'refused', message: 'v9' },
    ],
  ]
  test.each(finals)('%s ends the run', async (_what, failure, exit) => {
    expect(await scene([failure]).exit).toEqual(exit)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('an agent id that is taken is asked for again for a minute', async () => {
    const taken: DialFailure = {
      kind: 'refused',
      reason: { code: 'agent_id_taken', message: 'taken', retryAfterMs: 10_000 },
    }
    const run = scene([taken])
    await pass(59_000)
    expect(run.dialledAt.length).toBeGreaterThan(4)
    await pass(20_000)
    expect(await run.exit).toEqual({ kind: 'agent_id_taken', message: 'taken' })
    const patient = scene([taken, taken, 'link'])
    await pass(30_000)
    expect(patient.states.at(-1)).toEqual({ kind: 'linked' })
    patient.stop()
    await patient.exit
  })
})

describe('a link that ends', () => {
  test('is replaced at once after a good life, and after a wait otherwise', async () => {
    const run = scene(['link'])
    await pass(10_000)
    run.link.close({ code: 'transport', message: 'cut' })
    await pass(1)
    expect(run.links.length).toBe(2)
    run.link.close({ code: 'transport', message: 'cut again' })
    await pass(200)
    expect(run.links.length).toBe(2)
    await pass(100)
    expect(run.links.length).toBe(3)
    run.stop()
    await run.exit
  })

  test('is replaced before it ends, when the server says go-away', async () => {
    const run = scene(['link'])
    await pass(1_000)
    const old = run.link
    old.leave({ code: 'going_away', message: 'restart' })
    await pass(1)
    expect(run.links.length).toBe(2)
    expect(old.isClosed).toBe(false)
    run.stop()
    await run.exit
    expect(old.isClosed).toBe(true)
  })

  test.each([
    ['revoked', 'revoked'],
    ['evicted', 'taken_over'],
  ] as const)('as %s after a good life ends the run', async (code, kind) => {
    const run = scene(['link'])
    await pass(10_000)
    run.link.close({ code, message: 'why' })
    expect(await run.exit).toEqual({ kind, message: 'why' })
  })

  test('as evicted when it was young may be our own echo: it is dialled again', async () => {
    const run = scene(['link'])
    await pass(100)
    run.link.close({ code: 'evicted', message: 'why' })
    await pass(1_000)
    expect(run.links.length).toBe(2)
    run.stop()
    await run.exit
  })

  test('beats each 10 s until then, and leaves no timer', async () => {
    const run = scene(['link'])
    await pass(35_000)
    expect(run.link.heartbeats).toBe(4)
    run.link.close({ code: 'revoked', message: '' })
    await run.exit
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('after the machine slept or changed its network', () => {
  test('a link on which the server still answers is kept', async () => {
    const run = scene(['link'])
    await pass(20_000)
    run.disturb('slept')
    await pass(2_000)
    expect(run.links.length).toBe(1)
    run.stop()
    await run.exit
  })

  test('a link that brings no answer is given up within 1.5 s', async () => {
    const run = scene(['link'])
    await pass(20_000)
    const deaf = run.link
    deaf.answers = false
    run.disturb('network_changed')
    await pass(1_500)
    expect(deaf.isClosed).toBe(true)
    await pass(1)
    expect(run.links.length).toBe(2)
    run.stop()
    await run.exit
  })
})
