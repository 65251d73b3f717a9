import type { TunnelView } from '@cyberun/api'
import { expect, test } from 'vitest'
import { formatUntil } from '../src/text.ts'
import { LiveLines } from '../src/tunnel/live-lines.ts'
import { tunnelScreen } from '../src/tunnel/screen.ts'

const NOW = Date.parse('2026-01-01T12:00:00Z')
const at = (ms: number) => new Date(NOW + ms).toISOString()

const viewer = (address: string, user_agent: string, open_count = 0) => ({
  ...{ address, user_agent, open_count },
  connected_at: at(-120_000),
  last_seen_at: at(-5_000),
})

const view = (changes: Partial<TunnelView>): TunnelView => ({
  session_id: '0190a5b0-0000-7000-8000-000000000001',
  target_port: 8188,
  tunnel_protocol: 'http',
  tunnel_url: 'http://localhost:8788/tunnel/x/',
  opened_at: at(-600_000),
  opened_by: '0190a5b0-0000-7000-8000-000000000002',
  task_id: null,
  viewer_count: 0,
  bytes_in: 0,
  bytes_out: 0,
  last_activity_at: at(0),
  profile: 'comfyui',
  host_policy: 'rewrite',
  path_mode: 'strip',
  idle_timeout_s: 1800,
  expires_at: at(29 * 60_000),
  is_inspected: false,
  viewer_list: [],
  ...changes,
})

test('who is on it, how much goes through in a second, when it ends, and the keys', () => {
  const chrome = 'Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36'
  const shown = view({
    viewer_count: 2,
    bytes_in: 3_000,
    bytes_out: 2_097_152,
    viewer_list: [viewer('192.0.2.1', chrome, 2), viewer('192.0.2.2', 'curl/8.5 (x)')],
  })
  expect(tunnelScreen(shown, { at: NOW - 2_000, bytesIn: 1_000, bytesOut: 0 }, NOW, 'extended')).toEqual([
    '2 viewers; ends in 29 min unless it is used',
    'to the service 1000 B/s, 2.9 KiB in all; back 1.0 MiB/s, 2.0 MiB in all',
    '  192.0.2.1  Chrome 131  for 2 min, 2 open',
    '  192.0.2.2  curl/8.5  for 2 min, seen 5 s ago',
    'extended',
    'e extend   r revoke: new addresses   q leave it open   x end it',
  ])
})

test('a crowd is cut, and what visitors say of themselves cannot move the cursor', () => {
  const crowd = Array.from({ length: 20 }, (_, i) => viewer(`192.0.2.${i}`, `\x1b[2Jevil\x07${'x'.repeat(100)}`))
  const lines = tunnelScreen(view({ viewer_count: 30, viewer_list: crowd }), undefined, NOW, '')
  expect(lines).toContain('  and 22 more')
  expect(lines.join('')).not.toMatch(/\p{Cc}/u)
  expect(lines).toHaveLength(12)
})

test.each([
  [-1, 'now'],
  [30_000, 'in 30 s'],
  [1_799_000, 'in 30 min'],
  [7_200_000, 'in 2 h'],
  [5_400_000, 'in 1.5 h'],
])('%i ms from now is %s', (ms, text) => {
  expect(formatUntil(at(ms), NOW)).toBe(text)
})

test('lines are drawn over what they were, cut to the terminal', () => {
  const written: string[] = []
  const output = { columns: 10, write: (text: string) => void written.push(text) }
  const lines = new LiveLines(output as never)
  lines.show(['one', 'a line that is too long'])
  lines.show(['two'])
  lines.clear()
  lines.clear()
  expect(written.join('')).toBe('one\na line t…\n\x1b[2A\r\x1b[Jtwo\n\x1b[1A\r\x1b[J')
})
