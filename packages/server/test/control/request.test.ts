import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { ApiError, routes } from '@cyberun/api'
import { expect, test } from 'vitest'
import { MAX_BODY_BYTES, parseJson, parseRequest } from '../../src/control/request.ts'

const bytes = (text: string) => new TextEncoder().encode(text)

/** What a body is refused with. */
function refusal(body: Uint8Array): string {
  try {
    parseJson(body)
  } catch (error) {
    if (error instanceof ApiError && error.code === 'invalid_request') return error.message
    throw error
  }
  throw new Error('it was taken')
}

test.each([
  ['nothing', '', {}],
  ['an object', '{"a": [1, "ü", null]}', { a: [1, 'ü', null] }],
  ['a whole pair of surrogates', '{"a": "\\ud83d\\ude00"}', { a: '😀' }],
  ['32 levels', '['.repeat(32) + ']'.repeat(32), JSON.parse('['.repeat(32) + ']'.repeat(32))],
])('a body of %s is taken', (_what, text, value) => {
  expect(parseJson(bytes(text))).toEqual(value)
})

test.each([
  ['words', 'hello', 'body: is not JSON'],
  ['a form', 'a=b&c=d', 'body: is not JSON'],
  ['JSON that stops', '{"user_password": "hunter2', 'body: is not JSON'],
  ['two values', '{} {}', 'body: is not JSON'],
  ['a comment', '{} // x', 'body: is not JSON'],
  ['NaN', '{"a": NaN}', 'body: is not JSON'],
  ['a byte order mark in the middle', '{"a"\ufeff: 1}', 'body: is not JSON'],
  ['half a surrogate pair', '{"a": "\\ud83d"}', 'half a surrogate pair'],
  ['half a pair in a key', '{"\\udc00": 1}', 'half a surrogate pair'],
  ['NUL', '{"a": {"b": ["\\u0000"]}}', 'NUL'],
  ['a number that would be kept as null', '{"a": [1e999]}', 'a number that is too large'],
  ['one below every float', '-1e999', 'a number that is too large'],
  ['33 levels', '['.repeat(33) + ']'.repeat(33), 'deeper than 32'],
  ['all the nesting that fits', '['.repeat(MAX_BODY_BYTES / 2) + ']'.repeat(MAX_BODY_BYTES / 2), 'deeper than 32'],
  ['objects nested as deep as fits', `${'{"a":'.repeat(9_000)}1${'}'.repeat(9_000)}`, 'deeper than 32'],
])('a body of %s is refused', (_what, text, message) => {
  expect(refusal(bytes(text))).toContain(message)
})

test('bytes that are not UTF-8 are refused', () => {
  expect(refusal(Uint8Array.of(0x22, 0xff, 0x22))).toContain('is not JSON in UTF-8')
  expect(refusal(Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22))).toContain('is not JSON in UTF-8')
})

test('a refusal never quotes the body', () => {
  expect(refusal(bytes('{"user_password": "hunter2",}'))).not.toContain('hunter2')
})

test('a field called __proto__ is refused, wherever it is', () => {
  for (const text of ['{"__proto__": {"admin": true}}', '{"a": [{"__proto__": 1}]}']) {
    expect(refusal(bytes(text))).toContain('__proto__')
  }
})

/** PostgreSQL refuses it wherever it meets one. */
test.each([
  ['GET /audit', 'action'],
  ['GET /r/tasks', 'agent_id'],
] as const)('a NUL in the query of %s is refused with its place', async (name, member) => {
  const request = Object.assign(new IncomingMessage(new Socket()), { url: `/api/v1/x?${member}=a%00b` })
  await expect(parseRequest(routes[name], request, {})).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining(`query.${member}`),
  })
})
