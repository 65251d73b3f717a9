import { mkdirSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Browser, chromium, type Page } from 'playwright-core'
import { requireProgram } from './programs.ts'

export interface BrowserOptions {
  /** Names that lead to this machine, as `*.tunnels.test`; any other name is looked up as usual. */
  localNames?: readonly string[]
  /** Origins that count as a secure context though they speak plain HTTP: service workers need one. */
  trustedOrigins?: readonly string[]
  /** Certificates that nobody vouches for are good enough, as those of `makeLocalCertificate`. */
  anyCertificate?: boolean
}

/** What a browser in a container needs, and what keeps it from talking to its maker. */
const SWITCHES = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** Starts the system's Chromium without a window. The test has asked for it with `lacksPrograms('chromium')`. */
export function launchBrowser(options: BrowserOptions = {}): Promise<Browser> {
  const { localNames = [], trustedOrigins = [], anyCertificate = false } = options
  const args = [...SWITCHES]
  if (localNames.length > 0) {
    args.push(`--host-resolver-rules=${localNames.map((name) => `MAP ${name} 127.0.0.1`).join(', ')}`)
  }
  if (trustedOrigins.length > 0) args.push(`--unsafely-treat-insecure-origin-as-secure=${trustedOrigins.join(',')}`)
  if (anyCertificate) args.push('--ignore-certificate-errors')
  return chromium.launch({ executablePath: requireProgram('chromium'), args })
}

/** Opens a tunnel's page as a person does, who reads the notice before it and goes on. */
export async function openTunnelPage(page: Page, url: string): Promise<void> {
  await page.goto(url)
  const onward = page.locator('a[href*="cyberun-continue="]')
  if ((await onward.count()) === 0) return
  await onward.click()
  // Both pages have the same address: only that the notice is gone tells the one from the other.
  await onward.waitFor({ state: 'detached' })
  await page.waitForLoadState()
}

let screenshots: string | undefined

/**
 * Keeps what `page` shows as `<name>.png`, in the folder that `CYBERUN_TEST_SCREENSHOTS` names or else in one of the
 * system's for what may go; returns its path.
 */
export async function screenshot(page: Page, name: string): Promise<string> {
  screenshots ??= process.env['CYBERUN_TEST_SCREENSHOTS'] ?? mkdtempSync(join(tmpdir(), 'cyberun-screenshots-'))
  mkdirSync(screenshots, { recursive: true })
  const path = join(screenshots, `${name}.png`)
  await page.screenshot({ path })
  return path
}
