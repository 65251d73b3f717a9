import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { launchBrowser } from '../../src/browser.ts'
import { lacksPrograms } from '../../src/programs.ts'
import { ATTACKS } from './attacks.ts'
import { GROUNDS, type Ground, startNaiveGround } from './grounds.ts'
import { succeedingAttacks } from './stage.ts'

async function measure(start: () => Promise<Ground>, known: readonly string[]): Promise<string[]> {
  await using ground = await start()
  await using browser = await launchBrowser(ground.browser)
  return await succeedingAttacks(browser, ground, ATTACKS, known)
}

describe.skipIf(lacksPrograms('chromium', 'openssl'))('a hostile page in a tunnel', { concurrent: true }, () => {
  test('gets all it wants of a naive gateway with one origin', async () => {
    const all = ATTACKS.map(({ name }) => name)
    expect(await measure(startNaiveGround, all)).toEqual(all)
  })

  test.each(GROUNDS)('gets at $name what nothing can stop there', async ({ start, succeeding }) => {
    expect(await measure(start, succeeding)).toEqual(succeeding)
  })
})

describe('docs/tunnels.md', () => {
  const page = readFileSync(new URL('../../../../docs/tunnels.md', import.meta.url), 'utf8')
  const [, section = ''] = page.split('## What pages can do to each other')

  test('counts the attacks', () => {
    expect(section).toContain(`${ATTACKS.length} attacks`)
  })

  test('lists what succeeds, and where', () => {
    const rows = [...section.matchAll(/^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$/gm)].slice(2)
    const told = Object.fromEntries(rows.map(([, where = '', count, what = '']) => [where, [Number(count), what]]))
    expect(told).toEqual(
      Object.fromEntries(
        GROUNDS.map(({ name, succeeding }) => [name, [succeeding.length, succeeding.join('; ') || 'nothing']]),
      ),
    )
  })
})
