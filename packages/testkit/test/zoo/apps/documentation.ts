import { deepEqual } from 'node:assert/strict'
import { get } from 'node:http'
import { freePort } from '../../../src/free-port.ts'
import { requireProgram } from '../../../src/programs.ts'
import { startApplication } from '../../../src/zoo/application.ts'
import type { Application, Visit } from '../application.ts'

/** How many of its links are followed: pages, pictures, styles and scripts. */
const LINKS = 500
/** Python's server keeps five connections waiting and lets the others try again a second later. */
const AT_ONCE = 4

/** Python's documentation, a thousand static files that name each other relatively. */
export const documentation: Application = {
  name: 'Python documentation',
  profile: 'generic',
  programs: ['python3.11-doc', 'python3'],
  async start(directory) {
    const port = await freePort()
    const words = ['-m', 'http.server', String(port), '--bind', '127.0.0.1']
    const command = [requireProgram('python3'), ...words, '--directory', requireProgram('python3.11-doc')] as const
    return startApplication({ port, cwd: directory, command: [...command] })
  },
  steps: {
    async 'a page is found by its search'({ page }) {
      await page.click('a[href="library/index.html"] >> nth=0')
      // The page before has such a field, too.
      await page.waitForURL(/\/library\/index\.html/)
      await page.fill('input[name=q] >> visible=true >> nth=0', 'asyncio')
      await page.keyboard.press('Enter')
      await page.waitForSelector('ul.search li a:has-text("asyncio")')
    },
    async 'none of 500 links is broken that is not broken without the tunnel'(visit) {
      const broken = await crawl(visit)
      const brokenAnyway: string[] = []
      for (const path of broken) {
        const { status } = await ask(`http://127.0.0.1:${visit.port}/${path}`, {})
        if (status !== 200) brokenAnyway.push(path)
      }
      deepEqual(broken, brokenAnyway)
    },
  },
}

/** Follows links from the front page until `LINKS` were asked for; answers the paths that were not there. */
async function crawl({ url, page, door }: Visit): Promise<string[]> {
  const isHost = door === 'host' || door === 'port'
  const token = /\/tunnel\/([^/]+)\//.exec(url)?.[1] ?? ''
  const base = isHost ? `${new URL(page.url()).origin}/` : url
  const fields = isHost ? { 'Cyberun-Tunnel-Token': token } : {}
  const known = new Set(['index.html'])
  let asked = 0
  const broken: string[] = []
  while (asked < LINKS) {
    const batch = [...known].slice(asked, asked + AT_ONCE)
    if (batch.length === 0) throw new Error(`only ${known.size} links were found`)
    const answers = await Promise.all(batch.map(async (path) => ({ path, ...(await ask(base + path, fields)) })))
    asked += batch.length
    for (const { path, status, body } of answers) {
      if (status !== 200) broken.push(path)
      else if (path.endsWith('.html')) for (const found of linksOf(body, path)) known.add(found)
    }
  }
  return broken
}

/** Paths below the root that a page names, without its own fragments and other sites. */
function linksOf(html: string, from: string): string[] {
  return [...html.matchAll(/(?:href|src)="([^"#?]+)/g)].flatMap(([, link = '']) => {
    const { origin, pathname } = new URL(link, `http://tree/${from}`)
    return origin === 'http://tree' ? [decodeURI(pathname.slice(1))] : []
  })
}

/** Browsers know `*.localhost` and the test's own names; programs ask this machine by its address. */
function ask(url: string, headers: Record<string, string>): Promise<{ status: number; body: string }> {
  const { host, port, pathname } = new URL(url)
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path: pathname, headers: { ...headers, Host: host } }
    get(options, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text) => {
        body += text
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body })).on('error', reject)
    }).on('error', reject)
  })
}
