import { expect, test } from 'vitest'
import { addressesOf, disturbance } from '../src/wake.ts'

const AWAKE = { wallMs: 1_000_000, addresses: 'eth0 10.0.0.7' }

test.each([
  ['an ordinary second', { wallMs: 1_001_000, addresses: AWAKE.addresses }, undefined],
  ['a busy machine', { wallMs: 1_004_000, addresses: AWAKE.addresses }, undefined],
  ['a clock set back', { wallMs: 400_000, addresses: AWAKE.addresses }, undefined],
  ['a sleep', { wallMs: 1_060_000, addresses: AWAKE.addresses }, 'slept'],
  ['a sleep on another network', { wallMs: 1_060_000, addresses: 'wlan0 192.168.1.5' }, 'slept'],
  ['another network', { wallMs: 1_001_000, addresses: 'wlan0 192.168.1.5' }, 'network_changed'],
  ['no network', { wallMs: 1_001_000, addresses: '' }, 'network_changed'],
])('%s', (_what, after, expected) => {
  expect(disturbance(AWAKE, after)).toBe(expected)
})

test('addresses compare whatever order they are listed in, and link-local ones do not count', () => {
  const entry = (address: string) => ({
    address,
    netmask: '',
    mac: '',
    internal: false,
    cidr: null,
    family: 'IPv4' as const,
  })
  const one = addressesOf({ lo: [entry('127.0.0.1')], eth0: [entry('10.0.0.7'), entry('fe80::1')] })
  const other = addressesOf({ eth0: [entry('10.0.0.7')], lo: [entry('127.0.0.1')] })
  expect(one).toBe(other)
  expect(one).not.toBe(addressesOf({ lo: [entry('127.0.0.1')] }))
})
