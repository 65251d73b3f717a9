import { checkHistory, type History, PROMISES, type Violation } from '@cyberun/testkit'
import { expect, test } from 'vitest'

type Stored = History['stored'] extends ReadonlyMap<string, infer T> ? T : never
type Run = History['runs'][number]

/** A task that was assigned twice and completed by its second attempt. */
const completed = (): Stored => ({
  status: 'completed',
  agentId: 'agent-1',
  retryCount: 1,
  maxRetries: 3,
  said: '[{"text":"task-1"},[]]',
  events: [
    { number: 1, name: 'status', status: 'pending' },
    { number: 2, name: 'status', status: 'queued' },
    { number: 3, name: 'status', status: 'running' },
    { number: 4, name: 'status', status: 'waiting' },
    { number: 5, name: 'status', status: 'queued' },
    { number: 6, name: 'completed' },
  ],
})

const run = (agentId: string, fence: number, what: Run['what']): Run => ({ agentId, taskId: 't', fence, what })

const kept = (): { -readonly [K in keyof History]: History[K] } => ({
  accepted: new Map([['t', { text: 'task-1' }]]),
  seen: [{ taskId: 't', status: 'completed' }],
  stored: new Map([['t', completed()]]),
  runs: [
    run('agent-0', 1, 'accepted'),
    run('agent-1', 2, 'accepted'),
    run('agent-1', 2, 'completed'),
    // Too late, and refused.
    run('agent-0', 1, 'completed'),
  ],
  kept: [],
})

const withTask = (change: Partial<Stored>) => (history: ReturnType<typeof kept>) => {
  history.stored = new Map([['t', { ...completed(), ...change }]])
}
const withEvents = (change: (events: Stored['events'][number][]) => void) => {
  const events = [...completed().events]
  change(events)
  return withTask({ events })
}

/** For each promise, ways to break it and nothing else. */
const BROKEN: [Violation['promise'], string, (history: ReturnType<typeof kept>) => void][] = [
  ['not_lost', 'the task is not there', (history) => Object.assign(history, { stored: new Map(), seen: [] })],
  [
    'ended',
    'it still runs',
    (history) => {
      withTask({ status: 'running', events: completed().events.slice(0, -1) })(history)
      history.seen = []
    },
  ],
  ['ended_once', 'it was completed twice', withEvents((events) => events.push({ number: 7, name: 'completed' }))],
  ['ended_once', 'something follows', withEvents((events) => events.push({ number: 7, name: 'log' }))],
  ['ended_once', 'it ended otherwise', withEvents((events) => events.splice(5, 1, { number: 6, name: 'cancelled' }))],
  [
    'stayed_ended',
    'it was cancelled before',
    (history) => Object.assign(history, { seen: [{ taskId: 't', status: 'cancelled' }] }),
  ],
  ['numbered', 'one is missing', withEvents((events) => events.splice(2, 1))],
  ['numbered', 'one comes twice', withEvents((events) => events.splice(2, 0, { number: 3, name: 'log' }))],
  [
    'ran_once',
    'two agents ran one attempt',
    (history) => Object.assign(history, { runs: [...history.runs, run('agent-2', 2, 'accepted')] }),
  ],
  ['completed_by_holder', 'another agent did', withTask({ agentId: 'agent-0' })],
  [
    'completed_by_holder',
    'a late one did',
    (history) => Object.assign(history, { runs: history.runs.filter((done) => done.fence === 1) }),
  ],
  ['own_output', 'it is that of another', withTask({ said: '[{"text":"task-2"},[]]' })],
  [
    'let_go',
    'an agent reports its end for ever',
    (history) => Object.assign(history, { kept: [{ agentId: 'agent-1', taskId: 't', fence: 2 }] }),
  ],
  [
    'failed_for_a_reason',
    'retries were left',
    (history) => {
      withEvents((events) => events.splice(5, 1, { number: 6, name: 'failed' }))(history)
      history.stored = new Map([...history.stored].map(([id, task]) => [id, { ...task, status: 'failed' }]))
      history.seen = []
    },
  ],
]

test('a history in which everything was kept has no violation', () => {
  expect(checkHistory(kept())).toEqual([])
})

test.each(BROKEN)('%s is found broken when %s', (promise, _how, breakIt) => {
  const history = kept()
  breakIt(history)
  const found = new Set(checkHistory(history).map((violation) => violation.promise))
  expect(found).toContain(promise)
})

test('every promise is broken by one of them', () => {
  expect(new Set(BROKEN.map(([promise]) => promise))).toEqual(new Set(Object.keys(PROMISES)))
})
