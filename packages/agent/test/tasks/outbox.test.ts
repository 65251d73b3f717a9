import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseAgentTaskLine } from '@cyberun/protocol'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RUN_LIMITS } from '../../src/tasks/limits.ts'
import { Outbox } from '../../src/tasks/outbox.ts'
import { leftToSay } from '../../src/tasks/records.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cyberun-outbox-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** A server that stores what comes in order, and whose acknowledgements come when the test lets them. */
class Storing {
  readonly stored: string[] = []
  isFinished = false
  /** Lines under way on the present stream. */
  #wire: string[] = []

  readonly send = (json: string): void => void this.#wire.push(json)

  get last(): number {
    return this.stored.length
  }

  /** Reads so many lines; the rest is still under way. */
  read(count: number): void {
    for (const json of this.#wire.splice(0, count)) {
      const line = parseAgentTaskLine(json)
      if (line?.type !== 'event' && line?.type !== 'finished') throw new Error(`it sent ${json}`)
      if (line.sequence <= this.last) continue
      expect(line.sequence).toBe(this.last + 1)
      if (line.type === 'finished') this.isFinished = true
      this.stored.push(line.type === 'finished' ? 'finished' : noteOf(line.event))
    }
  }

  /** What was under way is lost. */
  cut(): void {
    this.#wire = []
  }
}

function noteOf(event: { kind: string; message?: string }): string {
  return event.message ?? event.kind
}

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('push' as const), count: fc.integer({ min: 1, max: 40 }) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('read' as const), count: fc.integer({ min: 1, max: 20 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('acknowledge' as const), count: fc.constant(0) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cut' as const), count: fc.constant(0) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('connect' as const), count: fc.constant(0) }) },
)

/** How an agent may be killed after a run: how many lines arrive before what is left is written down, and after. */
const kill = fc.option(fc.record({ before: fc.nat(12), after: fc.nat(12), isHeard: fc.boolean() }))

test('whatever is cut or killed, and however late acknowledgements are, all notes arrive once, in order, without holes', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), kill, (steps, killed) => {
      // Small bounds, so that the disk is used too.
      const limits = { ...RUN_LIMITS, queueBytes: 300, unacknowledgedEvents: 4, unacknowledgedBytes: 400 }
      let outbox = new Outbox(() => folder, limits)
      const server = new Storing()
      const pushed: string[] = []
      let isConnected = false
      const connect = (): void => {
        server.cut()
        outbox.connect(server.send, server.last)
        isConnected = true
      }
      for (const { do: action, count } of steps) {
        switch (action) {
          case 'push':
            for (let index = 0; index < count; index++) {
              pushed.push(`note ${pushed.length}`)
              outbox.push({ kind: 'note', message: pushed.at(-1) ?? '' })
            }
            break
          case 'read':
            if (isConnected) server.read(count)
            break
          case 'acknowledge':
            if (isConnected) outbox.acknowledge(server.last)
            break
          case 'cut':
            outbox.disconnect()
            server.cut()
            isConnected = false
            break
          case 'connect':
            connect()
        }
      }
      outbox.finish({ kind: 'cancelled' })
      if (killed) {
        if (killed.isHeard) connect()
        server.read(killed.before)
        if (killed.isHeard) outbox.acknowledge(server.last)
        const left = outbox.left()
        server.read(killed.after)
        // Nothing is left of an attempt whose end is acknowledged.
        if (left.length > 0) {
          outbox = new Outbox(() => folder, limits)
          outbox.takeOver(leftToSay(left.join('\n')))
        }
      }
      connect()
      while (!server.isFinished) {
        server.read(1_000)
        outbox.acknowledge(server.last)
      }
      expect(server.stored).toEqual([...pushed, 'finished'])
      // What a killed process had on disk goes with the folder of the attempt.
      if (killed) for (const file of readdirSync(folder)) rmSync(join(folder, file))
      else expect(readdirSync(folder)).toEqual([])
    }),
    { numRuns: 400 },
  )
})

test('a disk that takes nothing costs log lines, and says how many', () => {
  const outbox = new Outbox(
    () => {
      throw Object.assign(new Error('no space'), { code: 'ENOSPC' })
    },
    { ...RUN_LIMITS, queueBytes: 300 },
  )
  const timestamp = '2025-06-15T15:06:40.000Z'
  for (let line = 0; line < 10; line++) {
    outbox.push({ kind: 'log', lines: [{ stream: 'stdout', line: `line ${line}`, timestamp }] })
  }
  outbox.push({ kind: 'note', message: 'a note' })
  outbox.finish({ kind: 'cancelled' })
  const sent: string[] = []
  outbox.connect((json) => sent.push(json), 0)
  const events = sent.flatMap((json) => {
    const line = parseAgentTaskLine(json)
    return line?.type === 'event' ? [line.event] : []
  })
  const kept = events.filter(({ kind }) => kind === 'log').length
  expect(events[0]).toEqual({
    kind: 'note',
    message: `${10 - kept} log lines are left out here: the agent could not send them for too long`,
  })
  expect(events).toContainEqual({ kind: 'note', message: 'a note' })
})

test('what a former process left is told whole, though the disk is full now', () => {
  const full = (): string => {
    throw Object.assign(new Error('full'), { code: 'ENOSPC' })
  }
  const outbox = new Outbox(full, { ...RUN_LIMITS, queueBytes: 300 })
  const log = (line: string) => ({ kind: 'log' as const, lines: [{ stream: 'stdout' as const, line, timestamp: NOW }] })
  const events = [log('a'), log('b'), log('c'), { kind: 'note' as const, message: 'N' }, log('d'), log('e'), log('f')]
  outbox.takeOver({ after: 0, events, outcome: { kind: 'cancelled' } })
  const server = new Storing()
  server.stored.push('a', 'b', 'c')
  outbox.connect(server.send, 3)
  server.read(5)
  expect(server.stored).toEqual(['a', 'b', 'c', 'N', 'log', 'log', 'log', 'finished'])
})

const NOW = '2026-01-01T00:00:00.000Z'
