import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { dialThroughSilence } from '../src/eager-dial.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Dials that are answered by hand. */
function dials() {
  const started: { signal: AbortSignal; succeed(name: string): void; fail(error: Error): void }[] = []
  const dial = (signal: AbortSignal): Promise<string> =>
    new Promise((resolve, reject) => {
      started.push({ signal, succeed: resolve, fail: reject })
      signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true })
    })
  const pending = (): number => started.filter(({ signal }) => !signal.aborted).length
  return { dial, started, pending }
}

test('a dial that succeeds at once is alone', async () => {
  const { dial, started } = dials()
  const done = dialThroughSilence(dial, () => {}, new AbortController().signal)
  started[0]?.succeed('first')
  expect(await done).toBe('first')
  await vi.advanceTimersByTimeAsync(60_000)
  expect(started.length).toBe(1)
})

test('through silence a second dial is begun afresh within each second, and never a third', async () => {
  const { dial, started, pending } = dials()
  const done = dialThroughSilence(dial, () => {}, new AbortController().signal)
  await vi.advanceTimersByTimeAsync(300)
  for (let round = 0; round < 4; round++) {
    await vi.advanceTimersByTimeAsync(700)
    expect(started.length).toBe(2 + round)
    expect(pending()).toBe(2)
  }
  started.at(-1)?.succeed('fresh')
  expect(await done).toBe('fresh')
  expect(started[0]?.signal.aborted).toBe(true)
  expect(started.at(-1)?.signal.aborted).toBe(false)
})

test('the patient dial wins too, and its failure is the failure', async () => {
  const winning = dials()
  const won = dialThroughSilence(winning.dial, () => {}, new AbortController().signal)
  await vi.advanceTimersByTimeAsync(2_500)
  winning.started[0]?.succeed('patient')
  expect(await won).toBe('patient')
  expect(winning.pending()).toBe(1)

  const losing = dials()
  const lost = dialThroughSilence(losing.dial, () => {}, new AbortController().signal)
  const failure = expect(lost).rejects.toThrow('no route')
  await vi.advanceTimersByTimeAsync(1_500)
  losing.started[1]?.fail(new Error('only one of many'))
  losing.started[0]?.fail(new Error('no route'))
  await failure
  await vi.advanceTimersByTimeAsync(60_000)
  expect(losing.started.length).toBe(2)
})

test('a dial that succeeds after the other is discarded', async () => {
  const late: ((value: string) => void)[] = []
  const discarded: string[] = []
  const dial = (): Promise<string> => new Promise((resolve) => late.push(resolve))
  const done = dialThroughSilence(dial, (value) => discarded.push(value), new AbortController().signal)
  await vi.advanceTimersByTimeAsync(1_500)
  late[1]?.('fresh')
  await vi.advanceTimersByTimeAsync(0)
  late[0]?.('patient')
  expect(await done).toBe('fresh')
  await vi.advanceTimersByTimeAsync(0)
  expect(discarded).toEqual(['patient'])
})

test('a dial that succeeds as the patient one fails is discarded: nobody would ever close it', async () => {
  const discarded: string[] = []
  const { dial, started } = dials()
  const done = dialThroughSilence(dial, (value) => discarded.push(value), new AbortController().signal)
  const failure = expect(done).rejects.toThrow('no route')
  await vi.advanceTimersByTimeAsync(1_500)
  started[0]?.fail(new Error('no route'))
  started[1]?.succeed('fresh')
  await failure
  await vi.advanceTimersByTimeAsync(0)
  expect(discarded).toEqual(['fresh'])
})

test('an end from outside ends both', async () => {
  const { dial, started, pending } = dials()
  const stop = new AbortController()
  const done = expect(dialThroughSilence(dial, () => {}, stop.signal)).rejects.toThrow('aborted')
  await vi.advanceTimersByTimeAsync(1_500)
  stop.abort()
  await done
  expect(pending()).toBe(0)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(started.length).toBe(2)
})
