import { describe, expect, test } from 'vitest'
import { launchBrowser } from '../../src/browser.ts'
import { lacksPrograms } from '../../src/programs.ts'
import { ATTACKS_BY_LEAKS } from './attacks-by-leaks.ts'
import { ATTACKS_ON_API } from './attacks-on-api.ts'
import { ATTACKS_ON_PAGES } from './attacks-on-pages.ts'
import { ATTACKS_ON_STATE } from './attacks-on-state.ts'
import { type Ground, GROUNDS, startNaiveGround } from './grounds.ts'
import { succeedingAttacks } from './stage.ts'

const ATTACKS = [...ATTACKS_ON_API, ...ATTACKS_ON_PAGES, ...ATTACKS_ON_STATE, ...ATTACKS_BY_LEAKS]

async function measure(start: () => Promise<Ground>): Promise<string[]> {
  await using ground = await start()
  await using browser = await launchBrowser(ground.browser)
  return await succeedingAttacks(browser, ground, ATTACKS)
}

describe.skipIf(lacksPrograms('chromium', 'openssl'))('a hostile page in a tunnel', () => {
  test('gets all it wants of a naive gateway with one origin', async () => {
    expect(await measure(startNaiveGround)).toEqual(ATTACKS.map(({ name }) => name))
  })

  test.each(GROUNDS)('gets at $name what nothing can stop there', async ({ start, succeeding }) => {
    expect(await measure(start)).toEqual(succeeding)
  })
})
