import type { Browser, Page } from 'playwright-core'
import { openTunnelPage } from '../../src/browser.ts'
import type { Attack, Stage } from './attack.ts'
import type { Ground } from './grounds.ts'

/** What is known to succeed is given far longer than it takes, so that a busy machine does not make it fail. */
const PATIENCE_MS = { succeeds: 30_000, fails: 1_000 }

/**
 * A fresh browser profile on `ground`, in which the victim has done all of what attacks are after; with the API's pages
 * only `withApi`, because each costs the browser a process.
 */
async function setUp(
  browser: Browser,
  ground: Ground,
  { withApi }: { withApi: boolean },
): Promise<Omit<Stage, 'patienceMs'>> {
  const context = await browser.newContext({ serviceWorkers: 'allow' })
  const { api } = ground
  const victim = await context.newPage()
  if (withApi) for (const url of api.pages) await victim.goto(url)
  const b = await openTunnel(victim, ground.tunnels.b)
  await victim.goto(`${b}/login`)
  await victim.evaluate(() => (window as unknown as { kept: Promise<unknown> }).kept)
  const hostile = await context.newPage()
  const a = await openTunnel(hostile, ground.tunnels.a)
  let another: Page | undefined
  return {
    context,
    at: {
      api: api.origin,
      apiCall: api.call,
      apiBody: JSON.stringify({ target_port: ground.a.port }),
      terminal: api.terminal,
      apiPages: api.pages,
      a,
      b,
      third: ground.third.origin,
    },
    victim,
    hostile,
    async openA(path = '') {
      another ??= await context.newPage()
      await another.goto(`${a}/${path}`).catch(() => undefined)
      return another
    },
    a: ground.a,
    b: ground.b,
    third: ground.third,
    addressOfA: ground.addressOfA,
    tokenOfA: ground.tokenOfA,
    addressIsToken: ground.addressIsToken,
    apiChanges: ground.apiChanges,
  }
}

/** Opens a tunnel as a person does; returns the address that its pages live below, without a slash at its end. */
async function openTunnel(page: Page, url: string): Promise<string> {
  await openTunnelPage(page, url)
  return page.url().replace(/\/$/, '')
}

/** The names of the attacks that succeed on `ground`, in their order; `known` are those that are known to. */
export async function succeedingAttacks(
  browser: Browser,
  ground: Ground,
  attacks: readonly Attack[],
  known: readonly string[],
): Promise<string[]> {
  const succeeded = new Set<Attack>()
  const run = async (attack: Attack, stage: Omit<Stage, 'patienceMs'>) => {
    const patienceMs = PATIENCE_MS[known.includes(attack.name) ? 'succeeds' : 'fails']
    if (await attack.run({ ...stage, patienceMs })) succeeded.add(attack)
  }
  const sharing = async () => {
    const stage = await setUp(browser, ground, { withApi: true })
    for (const attack of attacks) if (!attack.spoils) await run(attack, stage)
    await stage.context.close()
  }
  const spoiling = async () => {
    for (const attack of attacks) {
      if (!attack.spoils) continue
      const stage = await setUp(browser, ground, { withApi: false })
      await run(attack, stage)
      await stage.context.close()
    }
  }
  // Beside each other: none of one kind looks at what those of the other change.
  await Promise.all([sharing(), spoiling()])
  return attacks.filter((attack) => succeeded.has(attack)).map(({ name }) => name)
}
