import { expect, test } from 'vitest'
import { isMasked, maskFields, maskPath } from '../../src/tunnels/inspector/inspector-mask.ts'

const JWT = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl'
const KEY = `sk-${'a1B2'.repeat(12)}`

/** The field as it stands, and what may be shown of it. */
const FIELDS: readonly (readonly [name: string, value: string, shown: string])[] = [
  ['Authorization', 'Bearer abcdef', 'Bearer ***'],
  ['authorization', 'Basic dXNlcjpwYXNz', 'Basic ***'],
  ['Authorization', 'abcdef', '***'],
  ['Proxy-Authorization', 'Digest username="x", response="y"', 'Digest ***'],
  ['Cookie', 'a=1; session=xyz; lonely', 'a=***; session=***;***'],
  ['Set-Cookie', 'sid=abc; Path=/; HttpOnly', 'sid=***; Path=/; HttpOnly'],
  ['X-Api-Key', 'abc', '***'],
  ['x_api_key', 'abc', '***'],
  ['X-XSRFToken', '2|abc', '***'],
  ['X-Auth-Token', 'abc', '***'],
  ['X-Goog-Signature', 'abc', '***'],
  ['X-Hub-Signature-256', 'sha256=abc', '***'],
  ['WWW-Authenticate', 'Basic realm="x"', 'Basic realm="x"'],
  ['Sec-WebSocket-Protocol', `chat, ${JWT}`, 'chat, ***'],
  ['X-Anything', `see ${KEY}!`, 'see ***!'],
  ['X-Author', 'me', 'me'],
  ['Idempotency-Key', 'abc', 'abc'],
  ['Referer', 'http://u:p@host/a?token=abc&b=1#access_token=x', 'http://***@host/a?token=***&b=1#access_token=***'],
  ['Location', `/tunnel/${'x'.repeat(43)}/a?code=abc`, '/tunnel/***/a?code=***'],
  ['Link', '</a?key=abc>; rel=next', '</a?key=***>; rel=next'],
  ['Refresh', '3; url=/login?sid=1', '3; url=/login?sid=***'],
  ['Content-Type', 'application/json', 'application/json'],
  ['X-Api-Key', '', ''],
]

test.each(FIELDS)('%s: %s', (name, value, shown) => {
  expect(maskFields(['Host', 'x', name, value])).toEqual(['Host', 'x', name, shown])
  expect(isMasked(name, value)).toBe(shown !== value)
})

/** The path as asked for, and what may be shown of it. */
const PATHS: readonly (readonly [path: string, shown: string])[] = [
  ['/a/b?c=d', '/a/b?c=d'],
  ['/api/kernels?token=abc&1700000000', '/api/kernels?token=***&1700000000'],
  ['/x?%74oken=abc', '/x?%74oken=***'],
  ['/x?access_token=abc&API-KEY=x&session_id=9', '/x?access_token=***&API-KEY=***&session_id=***'],
  ['/x?X-Amz-Credential=a&X-Amz-Signature=b&X-Amz-Date=c', '/x?X-Amz-Credential=***&X-Amz-Signature=***&X-Amz-Date=c'],
  ['/x?code=abc&state=s&monkey=1', '/x?code=***&state=s&monkey=1'],
  [`/hook/${KEY}/x`, '/hook/***/x'],
  [`/x?jwt-under-any-name=${JWT}`, '/x?jwt-under-any-name=***'],
  [`/x?next=${JWT}`, '/x?next=***'],
  [`/x?${KEY}`, '/x?***'],
  [`/tunnel/${'t'.repeat(43)}/x`, '/tunnel/***/x'],
  ['/x?password=a=b&q=1', '/x?password=***&q=1'],
  ['/x?%zz=1&pwd=2', '/x?%zz=1&pwd=***'],
  ['/x?author=me&q=skeleton-key', '/x?author=me&q=skeleton-key'],
]

test.each(PATHS)('%s', (path, shown) => {
  expect(maskPath(path)).toBe(shown)
})
