import { type Attack, fromA, happens, type Stage } from './attack.ts'
import { SECRETS, say } from './services.ts'

/** Whether `script` in a page of A comes back with a secret of B's. */
async function steals(stage: Stage, script: Parameters<typeof fromA<unknown>>[1]): Promise<boolean> {
  const loot = JSON.stringify(await fromA(stage, script)) ?? ''
  return Object.values(SECRETS).some((secret) => loot.includes(secret))
}

/** Whether B's application, opened once more, still has its session, and whether its service is sent a foreign one. */
async function reopened({ victim, at, b }: Stage): Promise<{ signedIn: boolean; tossed: boolean }> {
  const before = b.seen.length
  await victim.goto(`${at.b}/`)
  // A page of ours or the browser's in its place has no such element.
  const shown = await victim.evaluate(() => document.getElementById('who')?.textContent)
  const signedIn = shown === SECRETS.text
  const cookies = b.seen.slice(before).map(({ headers }) => headers.cookie ?? '')
  return { signedIn, tossed: cookies.some((cookie) => cookie.includes('=tossed')) }
}

/** The names of the cookies that requests to B carry: the page of A can learn them, or has read our source. */
async function cookieNames({ context, at }: Stage): Promise<string[]> {
  return (await context.cookies(`${at.b}/`)).map(({ name }) => name)
}

/** In a page of A: sets cookies of these names for every parent domain of its host and each path that reaches B. */
const tossByScript = ({ names, pathOfB }: { names: readonly string[]; pathOfB: string }) => {
  const labels = location.hostname.split('.')
  const domains = ['', ...labels.map((_, i) => `; domain=${labels.slice(i).join('.')}`)]
  for (const name of names) {
    for (const domain of domains) {
      // biome-ignore lint/suspicious/noDocumentCookie: an attacker takes what there is.
      for (const path of ['/', pathOfB]) document.cookie = `${name}=tossed; path=${path}${domain}; max-age=600`
    }
  }
  // Only what is read back has certainly arrived.
  return document.cookie
}

/** More cookies than a browser keeps for one site (Chromium: 180), so that the oldest go. */
const evictByScript = () => {
  const labels = location.hostname.split('.')
  for (const domain of ['', ...labels.map((_, i) => `; domain=${labels.slice(i).join('.')}`)]) {
    // biome-ignore lint/suspicious/noDocumentCookie: an attacker takes what there is.
    for (let i = 0; i < 400; i++) document.cookie = `c${i}=${i}; path=/${domain}; max-age=600`
  }
  return document.cookie
}

/** What B's application keeps in the browser. */
export const ATTACKS_ON_STATE: Attack[] = [
  {
    name: 'read localStorage of B',
    run: (stage) => steals(stage, () => JSON.stringify(localStorage)),
  },
  {
    name: 'read a database of B',
    run: (stage) =>
      steals(
        stage,
        () =>
          new Promise((done, failed) => {
            const open = indexedDB.open('app')
            open.onerror = failed
            open.onupgradeneeded = () => failed(new Error('it was not there'))
            open.onsuccess = () => {
              const read = open.result.transaction('kept').objectStore('kept').get('secret')
              read.onsuccess = () => done(read.result)
            }
          }),
      ),
  },
  {
    name: 'read the cache storage of B',
    run: (stage) => steals(stage, async () => (await caches.match('/secret'))?.text()),
  },
  {
    name: 'read what B has in the HTTP cache',
    run: (stage) =>
      steals(stage, async ({ b }) =>
        (await fetch(`${b}/cached`, { cache: 'only-if-cached', mode: 'same-origin' })).text(),
      ),
  },
  {
    name: 'read a cookie of B by script',
    run: (stage) =>
      steals(stage, async ({ b }) => {
        const frame = document.createElement('iframe')
        frame.src = `${b}/`
        document.body.append(frame)
        await new Promise((loaded) => frame.addEventListener('load', loaded))
        let inside = ''
        try {
          inside = frame.contentDocument?.cookie ?? ''
        } catch {
          // Another origin's.
        }
        return `${document.cookie} ${inside}`
      }),
  },
  {
    name: 'have a cookie of B sent to A',
    async run(stage) {
      await fromA(stage, () => fetch('say?answer={}').then(() => undefined))
      const sent = stage.a.seen.map(({ headers }) => headers.cookie ?? '').join()
      return [SECRETS.session, SECRETS.theme].some((secret) => sent.includes(secret))
    },
  },
  {
    name: 'put a cookie of its own into requests to B by script',
    spoils: true,
    async run(stage) {
      const names = await cookieNames(stage)
      const { pathname: pathOfB } = new URL(stage.at.b)
      await stage.hostile.evaluate(tossByScript, { names, pathOfB }).catch(() => undefined)
      const { signedIn, tossed } = await reopened(stage)
      return tossed || !signedIn
    },
  },
  {
    name: 'put a cookie of its own into requests to B by a header',
    spoils: true,
    async run(stage) {
      const { hostname, pathname } = new URL(stage.at.b)
      const labels = hostname.split('.')
      const domains = ['', ...labels.map((_, i) => `; Domain=${labels.slice(i).join('.')}`)]
      const paths = ['/', pathname]
      const cookies = (await cookieNames(stage)).flatMap((name) =>
        domains.flatMap((domain) => paths.map((path) => `${name}=tossed; Path=${path}${domain}; Max-Age=600`)),
      )
      await stage.hostile.goto(`${stage.at.a}/${say({ fields: { 'Set-Cookie': cookies } })}`)
      const { signedIn, tossed } = await reopened(stage)
      return tossed || !signedIn
    },
  },
  {
    name: 'push the cookies of B out of the browser',
    spoils: true,
    async run(stage) {
      await fromA(stage, evictByScript)
      return !(await reopened(stage)).signedIn
    },
  },
  {
    name: 'clear what B keeps by Clear-Site-Data',
    spoils: true,
    async run(stage) {
      await stage.hostile.goto(`${stage.at.a}/${say({ fields: { 'Clear-Site-Data': '"*"' } })}`)
      return !(await reopened(stage)).signedIn
    },
  },
  {
    name: 'hear B on a BroadcastChannel',
    run: (stage) =>
      steals(
        stage,
        ({ patienceMs }) =>
          new Promise((done) => {
            const all = new BroadcastChannel('app')
            all.onmessage = ({ data }) => done(data)
            all.postMessage('tell')
            setTimeout(done, patienceMs)
          }),
      ),
  },
  {
    name: "join B's SharedWorker",
    run: (stage) =>
      steals(
        stage,
        ({ b, patienceMs }) =>
          new Promise((done) => {
            const shared = new SharedWorker(`${b}/shared.js`, 'app')
            shared.onerror = done
            shared.port.onmessage = ({ data }) => done(data)
            shared.port.postMessage('tell')
            setTimeout(done, patienceMs)
          }),
      ),
  },
  {
    name: 'see the locks B holds',
    run: (stage) => steals(stage, async () => JSON.stringify(await navigator.locks.query())),
  },
  {
    name: 'use a permission that was given to B',
    async run(stage) {
      const { origin } = new URL(stage.at.b)
      // Nobody can give it to a page that is no secure context.
      await stage.context.grantPermissions(['geolocation'], { origin }).catch(() => undefined)
      const page = await stage.openA()
      const isGranted = () =>
        page.evaluate(async () => (await navigator.permissions.query({ name: 'geolocation' })).state === 'granted')
      return await happens(stage.patienceMs, () => isGranted().catch(() => false))
    },
  },
]

/** What would outlive itself in the browser, so it comes last. */
export const LAST_ATTACK: Attack = {
  name: 'put a service worker before the pages of B or of the API',
  async run(stage) {
    const body = `addEventListener('install', () => skipWaiting())
      addEventListener('activate', (event) => event.waitUntil(clients.claim()))
      addEventListener('fetch', (event) => event.respondWith(new Response('taken over')))`
    const fields = { 'Content-Type': 'text/javascript', 'Service-Worker-Allowed': '/' }
    const page = await stage.openA()
    const tries = { script: say({ fields, body }), scopes: ['/', `${new URL(stage.at.b).pathname}/`, '/api/', './'] }
    await page
      .evaluate(async ({ script, scopes }) => {
        for (const scope of scopes) {
          await navigator.serviceWorker.register(script, { scope }).catch(() => undefined)
        }
        const all = await navigator.serviceWorker.getRegistrations()
        if (all.length > 0) await navigator.serviceWorker.ready
      }, tries)
      .catch(() => undefined)
    for (const url of [`${stage.at.b}/`, ...stage.at.apiPages]) {
      await stage.victim.goto(url).catch(() => undefined)
      if ((await stage.victim.textContent('body')) === 'taken over') return true
    }
    return false
  },
}
