import type { InspectedDetail, InspectedRequest } from '@cyberun/api'
import { expect, test } from 'vitest'
import { Followed } from '../src/inspect/followed.ts'
import { detailText, entryLine, entryTable } from '../src/inspect/text.ts'

const HOSTILE = '\x1b]0;owned\x07\u202e\r\n'

function entry(number: number, changes: Partial<InspectedRequest> = {}): InspectedRequest {
  return {
    number,
    started_at: '2026-11-22T01:02:03.456Z',
    ended_at: '2026-11-22T01:02:03.500Z',
    method: 'GET',
    path: '/api/view?x=1',
    status: 200,
    failure: null,
    visitor_address: '203.0.113.9',
    replay_of: null,
    request_body_bytes: 0,
    response_body_bytes: 2_048,
    timing: { total_ms: 44.1, visitor_ms: 0, edge_ms: 0.3, agent_ms: 12.5, service_ms: 31.3, first_byte_ms: 40 },
    websocket: null,
    ...changes,
  }
}

test('each request is printed once, when it is over, however pages and ends fall', () => {
  const followed = new Followed()
  const open = { ended_at: null, status: null }
  const numbers = (entries: readonly InspectedRequest[]) => entries.map(({ number }) => number)
  expect(numbers(followed.take([entry(1), entry(2, open), entry(3)], 3))).toEqual([1, 3])
  expect(followed.after).toBe(1)
  expect(followed.take([entry(2, open), entry(3)], 3)).toEqual([])
  expect(numbers(followed.take([entry(2), entry(3), entry(4)], 4))).toEqual([2, 4])
  expect(followed.after).toBe(4)
  expect(followed.take([], 4)).toEqual([])
  // Turned off and on: numbers begin anew.
  expect(followed.take([], 1)).toEqual([])
  expect(followed.after).toBe(0)
  expect(numbers(followed.take([entry(1)], 1))).toEqual([1])
})

test('a table keeps to the width of its terminal, whatever paths hold', () => {
  const text = entryTable(
    [entry(1), entry(2, { path: `/${HOSTILE}${'x'.repeat(500)}`, status: null, ended_at: null })],
    120,
  )
  for (const line of text.split('\n')) expect([...line].length).toBeLessThanOrEqual(120)
  expect(text).toMatch(/^NO +TIME +STATUS +TOTAL +VISITOR +EDGE +AGENT +SERVICE +SIZE +METHOD +PATH\n/)
  expect(text).toMatch(/\n1 +01:02:03 200 +44.1 ms +0.0 ms +0.3 ms +12.5 ms +31.3 ms +2.0 KiB +GET +\/api\/view\?x=1\n/)
  expect(text.split('\n')).toHaveLength(4)
})

test('nothing of what strangers sent is obeyed by a terminal', () => {
  const websocket = {
    from_visitor: { message_count: 3, byte_count: 9 },
    from_service: { message_count: 4, byte_count: 10 },
    close_code: 1000,
  }
  const hostile = entry(7, { path: HOSTILE, method: 'GET', failure: 'bad_response', websocket })
  expect(entryLine(hostile)).toContain('200 !bad_response 44.1 ms')
  expect(entryLine(hostile)).toContain('messages 3 up 4 down from 203.0.113.9\n')
  const detail: InspectedDetail = {
    ...hostile,
    request_header_list: [{ name: 'X-A', value: HOSTILE }],
    response_header_list: [],
    request_body: { is_whole: false, text: `a${HOSTILE}b`, base64: null },
    response_body: { is_whole: true, text: null, base64: '/w==' },
    is_replayable: false,
    curl: null,
  }
  const text = detailText(detail) + entryLine(hostile) + entryTable([hostile], 200)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that none is there is what is tested.
  expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
  expect(text).toContain('… the rest was not kept')
  expect(text).toContain('(base64) /w==')
})

test('a request that was sent again says of which', () => {
  expect(entryLine(entry(9, { replay_of: 4, visitor_address: null }))).toMatch(/ from replay of 4\n$/)
})
