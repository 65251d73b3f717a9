import { describe, expect, test } from 'vitest'
import { describePortRules, parsePortRules, portAllowed } from '../src/ports.ts'

const NONE_REFUSED: ReadonlySet<number> = new Set()

describe('tunnel_ports', () => {
  const cases: readonly [
    written: unknown,
    allowed: readonly number[],
    forbidden: readonly number[],
    described: string,
  ][] = [
    ['all', [1, 22, 65_535], [0, 65_536, -1, 1.5, Number.NaN], 'all'],
    [[], [], [1, 8188, 65_535], 'none'],
    [[8188], [8188], [8187, 8189], '8188'],
    [8188, [8188], [8189], '8188'],
    ['8188', [8188], [8189], '8188'],
    [['9000-9010', 22], [9000, 9005, 9010, 22], [8999, 9011, 23], '9000-9010, 22'],
    ['8188, 9000-9001', [8188, 9000, 9001], [9002], '8188, 9000-9001'],
    [['1-65535'], [1, 65_535], [0, 65_536], '1-65535'],
  ]
  test.each(cases)('%j', (written, allowed, forbidden, described) => {
    const rules = parsePortRules(written)
    expect(allowed.filter((port) => !portAllowed(rules, NONE_REFUSED, port))).toEqual([])
    expect(forbidden.filter((port) => portAllowed(rules, NONE_REFUSED, port))).toEqual([])
    expect(describePortRules(rules)).toBe(described)
  })

  test.each(['0', 65_536, '9010-9000', '-1', '80-', 'http', '', null, {}, '1-2-3', '8188;22', 1.5])(
    'refuses %j and says what it wants',
    (written) => {
      expect(() => parsePortRules(written)).toThrow(/expected all, or ports from 1 to 65535/)
    },
  )

  test('a refused port stays refused whatever the rules say', () => {
    expect(portAllowed('all', new Set([8788]), 8788)).toBe(false)
    expect(portAllowed(parsePortRules([8788]), new Set([8788]), 8788)).toBe(false)
  })
})
