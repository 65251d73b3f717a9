import { expect, test } from 'vitest'
import {
  NewConnections,
  OpenVisits,
  TokenGuesses,
  TunnelConnections,
  VISITOR_LIMITS,
} from '../../src/tunnels/visitor-limits.ts'

const { addressOpen, tunnelOpen, addressConnections, tunnelConnections, guesses, guessMs } = VISITOR_LIMITS
const times = (count: number, act: (i: number) => void): void => {
  for (let i = 0; i < count; i++) act(i)
}

test('one address has a bound, of IPv6 its whole network, and giving back makes room', () => {
  const open = new OpenVisits()
  times(addressOpen, (i) => open.begin(`2001:db8::${i.toString(16)}`))
  expect(open.admit('2001:db8::ffff')).toMatchObject({ code: 'too_many_requests', fields: ['Retry-After', '1'] })
  expect(open.admit('2001:db8:0:1::1')).toBeUndefined()
  open.end('2001:db8::0')
  expect(open.admit('2001:db8::ffff')).toBeUndefined()
})

test('all of a tunnel has a bound, whoever comes', () => {
  const open = new OpenVisits()
  times(tunnelOpen, (i) => open.begin(`10.0.${i >> 8}.${i & 255}`))
  expect(open.admit('192.0.2.1')?.code).toBe('too_many_requests')
  times(tunnelOpen, (i) => open.end(`10.0.${i >> 8}.${i & 255}`))
  expect(open.count).toBe(0)
  expect(open.admit('192.0.2.1')).toBeUndefined()
})

test('new connections come as fast as they may, a second later again', () => {
  const address = new NewConnections()
  times(addressConnections, () => expect(address.admit('192.0.2.1', 0)).toBeUndefined())
  expect(address.admit('192.0.2.1', 0)).toMatchObject({ code: 'rate_limited', fields: ['Retry-After', '1'] })
  expect(address.admit('192.0.2.2', 0)).toBeUndefined()
  expect(address.admit('192.0.2.1', 1_000)).toBeUndefined()
  const tunnel = new TunnelConnections()
  times(tunnelConnections, () => expect(tunnel.admit(0)).toBeUndefined())
  expect(tunnel.admit(0)?.status).toBe(429)
  expect(tunnel.admit(1_000)).toBeUndefined()
})

test('different wrong tokens are counted, one shown again and again is not', () => {
  const guessed = new TokenGuesses()
  times(10 * guesses, () => guessed.wrong('192.0.2.1', 'the tab of a closed tunnel', 0))
  expect(guessed.refuse('192.0.2.1', 0)).toBeUndefined()
  times(guesses, (i) => guessed.wrong('192.0.2.1', `guess ${i}`, 1_000))
  expect(guessed.refuse('192.0.2.1', 1_000)).toMatchObject({ code: 'rate_limited', fields: ['Retry-After', '599'] })
  expect(guessed.refuse('192.0.2.2', 1_000)).toBeUndefined()
  expect(guessed.refuse('192.0.2.1', guessMs)).toBeUndefined()
  guessed.wrong('192.0.2.1', 'afterwards', guessMs)
  expect(guessed.refuse('192.0.2.1', guessMs)).toBeUndefined()
})

test('what is remembered of addresses is bounded', () => {
  const guessed = new TokenGuesses()
  times(guesses, (i) => guessed.wrong('192.0.2.1', `guess ${i}`, 0))
  times(VISITOR_LIMITS.addresses, (i) => guessed.wrong(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, 'x', 0))
  expect(guessed.refuse('192.0.2.1', 0)).toBeUndefined()
})
