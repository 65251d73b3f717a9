import type { IncomingMessage } from 'node:http'
import { expect, test } from 'vitest'
import { createVisitorAddress } from '../src/visitor-address.ts'

const from = (remoteAddress: string, forwarded?: string) =>
  ({ socket: { remoteAddress }, headers: { 'x-forwarded-for': forwarded } }) as unknown as IncomingMessage

test.each([
  ['nobody is trusted: the header is ignored', [], '203.0.113.9', '1.2.3.4', '203.0.113.9'],
  ['a stranger sends the header', ['10.0.0.0/8'], '203.0.113.9', '1.2.3.4', '203.0.113.9'],
  ['one proxy', ['10.0.0.0/8'], '10.1.2.3', '1.2.3.4', '1.2.3.4'],
  ['an entry the visitor made up', ['10.0.0.0/8'], '10.1.2.3', '6.6.6.6, 1.2.3.4', '1.2.3.4'],
  ['two proxies', ['10.0.0.0/8'], '10.1.2.3', '6.6.6.6, 1.2.3.4, 10.9.9.9', '1.2.3.4'],
  ['only proxies in the list', ['10.0.0.0/8'], '10.1.2.3', '10.9.9.9', '10.9.9.9'],
  ['no header from a proxy', ['10.0.0.0/8'], '10.1.2.3', undefined, '10.1.2.3'],
  ['garbage from a proxy', ['10.0.0.0/8'], '10.1.2.3', 'unknown', '10.1.2.3'],
  ['IPv4 on an IPv6 socket', ['127.0.0.1'], '::ffff:127.0.0.1', '2001:db8::1', '2001:db8::1'],
  ['IPv6 range', ['fd00::/8'], 'fd00::1', '2001:db8::1', '2001:db8::1'],
])('%s', (_what, trusted, peer, forwarded, expected) => {
  expect(createVisitorAddress(trusted).of(from(peer, forwarded))).toBe(expected)
})
