import { setTimeout as delay } from 'node:timers/promises'
import type { BrowserContext, Page } from 'playwright-core'
import type { Service, Victim } from './services.ts'

/** Where things are as the pages' browser reaches them; none ends in a slash. */
export interface Addresses {
  /** The origin of the API. */
  api: string
  /** Call with POST to change something there, with this body. */
  apiCall: string
  apiBody: string
  /** The socket of a shell. */
  terminal: string
  /** The pages of the API that a user opens. */
  apiPages: string[]
  /** The tunnels' services, as their own pages see them. */
  a: string
  b: string
  /** Another site. */
  third: string
}

/** A browser in which the victim uses the API and tunnel B, and has opened tunnel A. */
export interface Stage {
  context: BrowserContext
  at: Addresses
  /** The tab with B's application, signed in. */
  victim: Page
  /** A tab with a page of A, for scripts that leave it as it was. */
  hostile: Page
  /**
   * Shows a page of A in a third tab, in place of the one before: a tab costs more than all that is done in it. `path`
   * has no slash at its start.
   */
  openA(path?: string): Promise<Page>
  a: Service
  b: Victim
  third: Service
  /** Tunnel A's path door. */
  addressOfA: string
  /** The token in it. */
  tokenOfA: string
  /** Whether B's address is no secret before A: then only what is done in the victim's name is an attack. */
  addressIsToken: boolean
  /** How many changes the API made so far. */
  apiChanges(): Promise<number>
  /** How long what the attack is after is given to happen, in milliseconds. */
  patienceMs: number
}

export interface Attack {
  /** What the attacker has got when it succeeds. */
  name: string
  /** It leaves the browser changed, so it gets one to itself; there the API's pages were never opened. */
  spoils?: true
  /** Whether it succeeded. */
  run(stage: Stage): Promise<boolean>
}

/** A page that hangs in an attack has not succeeded. */
const PAGE_MS = 3_000

/** Whether `isDone` comes true within `patienceMs`. */
export async function happens(patienceMs: number, isDone: () => boolean | Promise<boolean>): Promise<boolean> {
  for (const end = performance.now() + patienceMs; performance.now() < end; await delay(20)) {
    if (await isDone()) return true
  }
  return isDone()
}

/** What a script in a page of A is told. */
type Told = Addresses & Pick<Stage, 'patienceMs'>

/** What `script` resolves with in a page of A; undefined when the browser stops it or it does not end. */
export async function fromA<T>(
  { hostile, at, patienceMs }: Stage,
  script: (told: Told) => T | Promise<T>,
): Promise<T | undefined> {
  const run = hostile.evaluate(script as (told: Told) => T, { ...at, patienceMs }).catch(() => undefined)
  return Promise.race([run as Promise<T | undefined>, delay(Math.max(PAGE_MS, patienceMs), undefined)])
}

/** Whether a page of A that embeds `url` shows it, with `text` in it: then it can be laid under the visitor's mouse. */
export async function shownInFrame(stage: Stage, url: string, text: string): Promise<boolean> {
  const page = await stage.openA()
  await page.evaluate((src) => {
    const frame = document.createElement('iframe')
    frame.src = src
    document.body.append(frame)
    return new Promise((loaded) => frame.addEventListener('load', loaded))
  }, url)
  // A page that may not be framed has one of the browser's own in its place.
  const framed = page.frames().filter((frame) => frame !== page.mainFrame() && frame.url().startsWith('http'))
  const texts = framed.map((frame) => frame.evaluate(() => document.body.textContent ?? '').catch(() => ''))
  return (await Promise.all(texts)).some((shown) => shown.includes(text))
}
