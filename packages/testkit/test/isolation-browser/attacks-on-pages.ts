import type { Page } from 'playwright-core'
import { type Attack, fromA, happens, type Stage, shownInFrame } from './attack.ts'
import { SECRETS, say } from './services.ts'

/** How long a form that leaves its page is given to arrive. */
const FORM_MS = 3_000

/** Runs what a page of A does, and tells whether B's service was changed by it. */
async function changes(stage: Stage, act: () => Promise<unknown>): Promise<boolean> {
  const before = stage.b.changes.length
  await act()
  return hasChanged(stage, before)
}

/** Whether B's service was changed since it had been `before` times: in the victim's name, where A may have the token. */
function hasChanged({ b, addressIsToken }: Stage, before: number): boolean {
  return b.changes.slice(before).some(({ signedIn }) => signedIn || !addressIsToken)
}

/** The page of A that B's page opens, as a link to it may. */
async function openedByB({ context, victim, at }: Stage): Promise<Page> {
  const [page] = await Promise.all([
    context.waitForEvent('page'),
    victim.evaluate((url) => void window.open(url), `${at.a}/`),
  ])
  await page.waitForLoadState()
  return page
}

const includesText = (loot: unknown) => JSON.stringify(loot)?.includes(SECRETS.text) ?? false

/** The origin of the page that a new tab has once a form of A's has led it to A's address by `method`. */
async function originOfOwnPage(stage: Stage, method: 'GET' | 'POST'): Promise<string | undefined> {
  const page = await stage.openA()
  const [tab] = await Promise.all([
    stage.context.waitForEvent('page'),
    page.evaluate(
      (to) => {
        const form = document.createElement('form')
        Object.assign(form, { target: '_blank', ...to })
        document.body.append(form)
        form.submit()
      },
      { method, action: stage.addressOfA },
    ),
  ])
  await tab.waitForURL(/^http/).catch(() => undefined)
  await tab.waitForLoadState()
  const own = await tab.evaluate(() => (document.title === 'A' ? self.origin : undefined))
  await tab.close()
  return own
}

/** B's pages in a browser, and requests to B in the victim's name. */
export const ATTACKS_ON_PAGES: Attack[] = [
  {
    name: "have a page of its own on the origin of the tunnels' addresses",
    async run(stage) {
      const origins = [await originOfOwnPage(stage, 'GET'), await originOfOwnPage(stage, 'POST')]
      return origins.includes(new URL(stage.addressOfA).origin)
    },
  },
  {
    name: 'read a page of B in a frame',
    async run(stage) {
      // Not in the hostile tab's page, because it changes what site it says it is of.
      const page = await stage.openA()
      const loot = await page
        .evaluate(async (b) => {
          const frame = document.createElement('iframe')
          frame.src = `${b}/`
          document.body.append(frame)
          await new Promise((loaded) => frame.addEventListener('load', loaded))
          if (frame.contentDocument) return frame.contentDocument.body.textContent
          document.domain = location.hostname.split('.').slice(1).join('.')
          return (frame.contentWindow as Window).document.body.textContent
        }, stage.at.b)
        .catch(() => '')
      return includesText(loot)
    },
  },
  {
    name: 'read the page of B that opened it',
    async run(stage) {
      const page = await openedByB(stage)
      const loot = await page.evaluate(() => window.opener.document.body.textContent).catch(() => '')
      await page.close()
      return includesText(loot)
    },
  },
  {
    name: 'read a page of B in a window of known name',
    async run(stage) {
      await stage.victim.evaluate(() => {
        window.name = 'app'
      })
      const page = await openedByB(stage)
      const loot = await page.evaluate(() => window.open('', 'app')?.document.body.textContent).catch(() => '')
      await page.close()
      return includesText(loot)
    },
  },
  {
    name: 'have B answer a message as if from its own page',
    async run(stage) {
      const page = await openedByB(stage)
      const loot = await page
        .evaluate(
          (patienceMs) =>
            new Promise((done) => {
              addEventListener('message', ({ data }) => done(data))
              window.opener.postMessage('who is there?', '*')
              setTimeout(done, patienceMs)
            }),
          stage.patienceMs,
        )
        .catch(() => '')
      await page.close()
      return includesText(loot)
    },
  },
  {
    name: 'show B signed in inside a frame, to have it clicked',
    run: (stage) => shownInFrame(stage, `${stage.at.b}/`, SECRETS.text),
  },
  {
    name: 'read B by fetch',
    run: async (stage) =>
      includesText(
        await fromA(stage, async ({ b }) => (await fetch(`${b}/private`, { credentials: 'include' })).text()),
      ),
  },
  {
    name: 'read B by a script of its own',
    run: async (stage) =>
      includesText(
        await fromA(stage, async ({ b }) => {
          const script = document.createElement('script')
          script.src = `${b}/data.js`
          document.body.append(script)
          await new Promise((loaded) => {
            script.onload = script.onerror = loaded
          })
          return (window as unknown as { loot?: string }).loot
        }),
      ),
  },
  {
    name: 'open a WebSocket to B',
    run: async (stage) =>
      includesText(
        await fromA(
          stage,
          ({ b }) =>
            new Promise((done) => {
              const socket = new WebSocket(`${b.replace(/^http/, 'ws')}/socket`)
              socket.onmessage = ({ data }) => done(data)
              socket.onerror = done
            }),
        ),
      ),
  },
  {
    name: 'change B by fetch',
    run: (stage) =>
      changes(stage, () =>
        fromA(stage, ({ b }) =>
          fetch(`${b}/change`, { method: 'POST', mode: 'no-cors', credentials: 'include' }).then(() => undefined),
        ),
      ),
  },
  {
    name: 'change B by a form',
    run: (stage) =>
      changes(stage, () =>
        fromA(stage, ({ b }) => {
          const form = document.createElement('form')
          form.method = 'POST'
          form.action = `${b}/change`
          const frame = document.createElement('iframe')
          frame.name = form.target = 'answer of B'
          document.body.append(frame, form)
          form.submit()
          return new Promise<void>((done) => frame.addEventListener('load', () => done()))
        }),
      ),
  },
  {
    name: 'change B by a form in the whole tab',
    async run(stage) {
      const before = stage.b.changes.length
      const form = `<form method="POST" action="${stage.at.b}/change"></form><script>document.forms[0].submit()</script>`
      // A tab that nobody needs again: to close or lead one in the middle of such a navigation can hang the browser's driver.
      const tab = await stage.context.newPage()
      await tab
        .goto(`${stage.at.a}/${say({ fields: { 'Content-Type': 'text/html' }, body: form })}`)
        .catch(() => undefined)
      return happens(Math.max(FORM_MS, stage.patienceMs), () => hasChanged(stage, before))
    },
  },
  {
    name: 'change B by a beacon',
    async run(stage) {
      const before = stage.b.changes.length
      await fromA(stage, ({ b }) => navigator.sendBeacon(`${b}/change`, 'x'))
      return happens(stage.patienceMs, () => hasChanged(stage, before))
    },
  },
  {
    name: 'change B by a redirect of its own',
    run: (stage) =>
      changes(stage, async () => {
        const redirect = say({ status: 307, fields: { Location: `${stage.at.b}/change` } })
        await stage.hostile
          .evaluate((path) => fetch(path, { method: 'POST', mode: 'no-cors', credentials: 'include' }), redirect)
          .catch(() => undefined)
      }),
  },
]
