import { type Attack, fromA, happens, type Stage, shownInFrame } from './attack.ts'
import { say } from './services.ts'

/** A window that is cut off from its opener by then is not held; browsers tell the opener when they get to it. */
const CUT_OFF_MS = 10_000

/** Runs what a page of A does, and tells whether the API was changed by it. */
async function changes(stage: Stage, act: () => Promise<unknown>): Promise<boolean> {
  const before = await stage.apiChanges()
  await act()
  return (await stage.apiChanges()) > before
}

/** What the victim may do with the API, done by a page behind tunnel A. */
export const ATTACKS_ON_API: Attack[] = [
  {
    name: 'read the API as its user',
    run: async (stage) =>
      (await fromA(stage, async ({ apiCall }) => {
        const answer = await fetch(apiCall, { credentials: 'include' })
        return answer.ok && (await answer.text()) !== ''
      })) === true,
  },
  {
    name: 'write to the API by fetch',
    run: (stage) =>
      changes(stage, () =>
        fromA(stage, async ({ apiCall, apiBody }) => {
          await fetch(apiCall, { method: 'POST', mode: 'no-cors', credentials: 'include', body: apiBody })
        }),
      ),
  },
  {
    name: 'write to the API by a form',
    run: (stage) =>
      changes(stage, () =>
        fromA(stage, ({ apiCall, apiBody }) => {
          const form = document.createElement('form')
          form.method = 'POST'
          form.enctype = 'text/plain'
          form.action = apiCall
          // Such a form writes `name=value`: here a JSON object with one property more.
          form.innerHTML = `<input name='${apiBody.slice(0, -1)}, "more":"' value='"}'>`
          const frame = document.createElement('iframe')
          frame.name = form.target = 'answer'
          document.body.append(frame, form)
          form.submit()
          return new Promise<void>((done) => frame.addEventListener('load', () => done()))
        }),
      ),
  },
  {
    name: 'write to the API by a beacon',
    async run(stage) {
      const before = await stage.apiChanges()
      await fromA(stage, ({ apiCall, apiBody }) => navigator.sendBeacon(apiCall, apiBody))
      return happens(stage.patienceMs, async () => (await stage.apiChanges()) > before)
    },
  },
  {
    name: 'write to the API by a redirect of its own',
    run: async (stage) => {
      const { at } = stage
      const redirect = say({ status: 307, fields: { Location: at.apiCall } })
      return changes(stage, () =>
        stage.hostile
          .evaluate(([path, body]) => fetch(path, { method: 'POST', mode: 'no-cors', body }), [
            redirect,
            at.apiBody,
          ] as const)
          .catch(() => undefined),
      )
    },
  },
  {
    name: 'open the socket of a shell',
    run: async (stage) =>
      (await fromA(
        stage,
        ({ terminal }) =>
          new Promise<boolean>((done) => {
            const socket = new WebSocket(terminal)
            socket.onopen = () => done(true)
            socket.onerror = () => done(false)
          }),
      )) === true,
  },
  {
    name: 'read what the pages of the API keep in the browser',
    run: async (stage) =>
      (await fromA(stage, async ({ apiPages }) => {
        for (const url of apiPages) {
          const frame = document.createElement('iframe')
          frame.src = url
          document.body.append(frame)
          await new Promise((loaded) => frame.addEventListener('load', loaded))
          try {
            const { localStorage, sessionStorage, document: inside } = frame.contentWindow as Window & typeof globalThis
            if (localStorage.length + sessionStorage.length + inside.cookie.length > 0) return true
          } catch {
            // Another origin's; the next page may be ours.
          }
        }
        return false
      })) === true,
  },
  {
    name: 'show a page of the API in a frame, to have it clicked',
    run: async (stage) => {
      for (const url of stage.at.apiPages) if (await shownInFrame(stage, url, '')) return true
      return false
    },
  },
  {
    name: 'hold a window with a page of the API',
    run: async (stage) => {
      const page = await stage.openA()
      for (const url of stage.at.apiPages) {
        const [popup] = await Promise.all([
          stage.context.waitForEvent('page'),
          page.evaluate((target) => {
            Object.assign(window, { held: window.open(target) })
          }, url),
        ])
        // The sandbox goes over to a page's windows, and a page that isolates itself is not shown in one.
        const isShown = await popup.waitForURL(url).then(
          () => true,
          () => false,
        )
        // A handle that still knows the page can lead it elsewhere and count its frames.
        const isCutOff = () => page.evaluate(() => (window as unknown as { held: Window }).held.closed)
        const isHeld = isShown && !(await happens(CUT_OFF_MS, isCutOff))
        await popup.close()
        if (isHeld) return true
      }
      return false
    },
  },
]
