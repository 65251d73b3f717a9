import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ACTIVITY_LIMITS } from '../../src/tunnels/activity.ts'
import { POOL_LIMITS } from '../../src/tunnels/edge/upstream-pool.ts'
import { CONNECTION_LIMITS } from '../../src/tunnels/edge/visitor-connection.ts'
import { REFUSAL_STATUS } from '../../src/tunnels/http/refusal.ts'
import { REQUEST_LIMITS } from '../../src/tunnels/http/request-parser.ts'
import { RESPONSE_LIMITS } from '../../src/tunnels/http/response-parser.ts'
import { PRESENCE_LIMITS } from '../../src/tunnels/presence.ts'
import { PROFILES } from '../../src/tunnels/profiles.ts'
import { VISITOR_LIMITS } from '../../src/tunnels/visitor-limits.ts'

const page = readFileSync(new URL('../../../../docs/tunnels.md', import.meta.url), 'utf8')

test('docs/tunnels.md names every answer of the edge with its status', () => {
  const rows = [...page.matchAll(/^\| (\w+) \| (\d{3}) \|/gm)].map(([, code = '', status]) => [code, Number(status)])
  expect(rows).toEqual(Object.entries(REFUSAL_STATUS))
})

test('docs/tunnels.md states the bounds that are in force', () => {
  const text = page.replace(/\s+/g, ' ')
  const { headBytes, headFields } = REQUEST_LIMITS
  const { headMs, aheadBytes, stalledMs, bodyStalledMs, keepAliveMs } = CONNECTION_LIMITS
  const fields = headFields.toLocaleString('en')
  expect(text).toContain(`(${headBytes / 1024} KiB, ${fields} fields, ${headMs / 1000} s)`)
  expect(text).toContain(`(${RESPONSE_LIMITS.headBytes / 1024} KiB, ${RESPONSE_LIMITS.interimAnswers} interim answers)`)
  expect(text).toContain(`pipelined requests (${aheadBytes / 1024} KiB,`)
  expect(text).toContain(`nothing of what waits for it for ${stalledMs / 1000} s is cut off`)
  expect(text).toContain(`a service to which nothing of a body moves for ${bodyStalledMs / 1000} s`)
  expect(text).toContain(`without a request is closed after ${keepAliveMs / 1000} s`)
  const { idle, idleMs, open } = POOL_LIMITS
  expect(text).toContain(
    `(${open.toLocaleString('en')}, of which ${idle} are kept for ${idleMs / 1000} s between requests)`,
  )
})

test('docs/tunnels.md names every profile with its host policy', () => {
  const section = page.split(/^## /m).find((part) => part.startsWith('Profiles')) ?? ''
  const rows = [...section.matchAll(/^\| ([\w-]+) \| (rewrite|preserve) \|/gm)].map(([, name = '', policy]) => [
    name,
    policy,
  ])
  expect(rows).toEqual(Object.entries(PROFILES).map(([name, { hostPolicy }]) => [name, hostPolicy]))
})

test('docs/tunnels.md says what counts as use, who is shown and how much one visitor may do, in the numbers in force', () => {
  const text = page.replace(/\s+/g, ' ')
  const { transferMs, transferBytes, answerBytes, answerMs, bulkBytes, bulkMs } = ACTIVITY_LIMITS
  const MIB = 1024 * 1024
  expect(text).toContain(`once it has taken ${transferMs / 1000} s or moved ${transferBytes / MIB} MiB`)
  expect(text).toContain(`up to ${answerBytes} bytes within ${answerMs} ms of the service's last message`)
  const { lateAnswerMs, keys, keysMs, stepMs } = ACTIVITY_LIMITS
  expect(text).toContain(`within ${lateAnswerMs / 1000} s of it and fewer than ${keys} times in ${keysMs / 1000} s`)
  expect(text).toContain(`what follows it within ${stepMs / 1000} s right after the service's answers`)
  expect(text).toContain(`pieces of ${ACTIVITY_LIMITS.uploadBytes / 1024} KiB always count`)
  expect(text).toContain(`TCP connections that bring ${bulkBytes / MIB} MiB within ${bulkMs / 1000} s`)
  expect(text).toContain(`up to ${PRESENCE_LIMITS.viewers.toLocaleString('en')} are remembered`)
  const limits = VISITOR_LIMITS
  const number = (count: number): string => count.toLocaleString('en')
  expect(text).toContain(
    `at most ${number(limits.tunnelOpen)} requests and connections under way, ${limits.addressOpen} of them from one address`,
  )
  expect(text).toContain(`${number(limits.tunnelConnections)} new connections a second; one address makes`)
  expect(text).toContain(`makes ${limits.addressConnections} new connections a second`)
  expect(text).toContain(`${limits.guesses} different wrong tokens within ${limits.guessMs / 60_000} minutes`)
})
