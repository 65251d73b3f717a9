import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Page } from 'playwright-core'
import { launchBrowser, openTunnelPage } from '../../src/browser.ts'

/** What a person does with a browser: opens a tunnel's page, follows its links to another site, uses a shell. */

export interface BrowserOrder {
  openTunnel(port: number): Promise<{ url: string; adminToken: string }>
  /** The terminal's page for the agent; a token goes to its end. */
  terminalUrl: string
  /** A file for the shell to write its environment into. */
  environmentFile: string
  /** Called while the shell is open. */
  whileOpen(): void
}

/** Places where no secret may be. */
export interface BrowserFindings {
  /** Heads of the requests that the tunnelled service and the other site got. */
  service: string[]
  otherSite: string[]
  /** Addresses and whatever else scripts and the next user of the browser can see. */
  browser: string[]
}

const headOf = ({ method, url, rawHeaders }: IncomingMessage) => `${method} ${url}\n${rawHeaders.join('\n')}`

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** A page that tells another site as much of its address as browsers let it. */
const pageFor = (otherSite: string) => `<!doctype html><title>service</title>
<img src="${otherSite}/image" referrerpolicy="unsafe-url"><script src="${otherSite}/script"></script>
<link rel="stylesheet" href="${otherSite}/style"><iframe src="${otherSite}/frame"></iframe>
<a href="${otherSite}/link">on</a>`

export async function browserRun({
  openTunnel,
  terminalUrl,
  environmentFile,
  whileOpen,
}: BrowserOrder): Promise<BrowserFindings> {
  const found: BrowserFindings = { service: [], otherSite: [], browser: [] }
  const otherSite = createServer((request, response) => {
    found.otherSite.push(headOf(request))
    response.setHeader('Content-Type', 'text/html').end('other site')
  })
  const otherPort = await listen(otherSite)
  const service = createServer((request, response) => {
    found.service.push(headOf(request))
    response.writeHead(200, { 'Content-Type': 'text/html', 'Referrer-Policy': 'unsafe-url' })
    response.end(pageFor(`http://127.0.0.1:${otherPort}`))
  })
  await using browser = await launchBrowser()
  const page = await browser.newPage()
  const { url, adminToken } = await openTunnel(await listen(service))

  await openTunnelPage(page, url)
  found.browser.push(await keptBy(page), await timingsOf(page))
  await page.click('a')
  await page.waitForURL(/\/link$/)
  found.browser.push(await keptBy(page))

  await page.goto(`${terminalUrl}${adminToken}`)
  await page.waitForSelector('#state[data-kind=open]')
  found.browser.push(page.url(), await keptBy(page))
  await page.keyboard.type(`cat /proc/$$/environ /proc/$PPID/environ > ${environmentFile}; echo all of"it"\n`)
  await page.waitForFunction(() => document.querySelector('.xterm-rows')?.textContent?.includes('all ofit'))
  whileOpen()
  await page.goto('about:blank')
  await page.goto(`${terminalUrl}${new URL(url).pathname.split('/')[2]}`)
  await page.waitForFunction(() => document.getElementById('problem')?.textContent !== '')
  found.browser.push(page.url(), await page.content())

  for (const server of [service, otherSite]) {
    server.close()
    server.closeAllConnections()
  }
  return found
}

/** What scripts of the page's origin and the next user of the browser can read, as text. */
function keptBy(page: Page): Promise<string> {
  return page.evaluate(() => {
    const { navigation } = window as unknown as { navigation: { entries(): { url: string }[] } }
    const urls = navigation.entries().map(({ url }) => url)
    const stored = [JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie, window.name]
    return JSON.stringify([location.href, document.referrer, urls, history.state, stored])
  })
}

/**
 * And what only the page's own scripts can. A terminal's page is not asked: the browser keeps the address it was opened
 * with, fragment and all, for the scripts of that page, and those are ours.
 */
function timingsOf(page: Page): Promise<string> {
  return page.evaluate(() => JSON.stringify(performance.getEntries()))
}
