import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Client, createClient } from '@cyberun/api/client'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { launchBrowser, screenshot } from '../../src/browser.ts'
import { type FaultRelay, startFaultRelay } from '../../src/fault-relay.ts'
import { type Product, startProduct } from '../../src/product.ts'
import { lacksPrograms } from '../../src/programs.ts'
import { ANSWERED_SEQUENCES, HOSTILE_SEQUENCES } from './hostile-sequences.ts'

const WAIT = { timeout: 20_000 }
/** For what goes from the agent to the browser and back some two hundred times. */
const LONG_WAIT = { timeout: 90_000 }
/** Frames that a viewer sends, by their first byte. */
const INPUT = 2
const REPORT = 3

describe.skipIf(lacksPrograms('chromium', 'python3'))('the terminal page in a browser', { timeout: 120_000 }, () => {
  let directory: string
  let product: Product
  let client: Client
  let browser: Browser
  /** Between the agent and the server, and between the browser and the server. */
  let agentWire: FaultRelay
  let browserWire: FaultRelay
  const service = createServer((_request, response) => void response.end('ok'))

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'cyberun-terminal-page-'))
    product = await startProduct(directory, {
      terminal: true,
      logLevel: 'debug',
      dialThrough: async (port) => {
        agentWire = await startFaultRelay({ port })
        return agentWire.port
      },
    })
    const { controlUrl, emailAddress, userPassword, teamId } = product.control
    browserWire = await startFaultRelay({ port: Number(new URL(controlUrl).port) })
    const body = { email_address: emailAddress, user_password: userPassword }
    const { access_token } = await createClient({ baseUrl: controlUrl }).call('POST /auth/login', { body })
    client = createClient({ baseUrl: controlUrl, token: access_token, teamId })
    service.listen(0, '127.0.0.1')
    await once(service, 'listening')
    browser = await launchBrowser()
  })
  afterAll(async () => {
    await browser?.close()
    service.close()
    await product?.[Symbol.asyncDispose]()
    await agentWire?.[Symbol.asyncDispose]()
    await browserWire?.[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  async function openTunnel(): Promise<{ session_id: string; admin_token: string }> {
    const body = client.call('POST /agents/{agentId}/tunnel', {
      params: { agentId: product.agentId },
      body: { target_port: (service.address() as AddressInfo).port, tunnel_protocol: 'http' },
    } as never)
    return (await body) as { session_id: string; admin_token: string }
  }
  const closeTunnel = (session_id: string) =>
    client.call('DELETE /agents/{agentId}/tunnel', { params: { agentId: product.agentId }, query: { session_id } })

  /** Opens the page with a shell, through the wire that the test can cut. */
  async function openPage(token: string): Promise<{ page: Page; sent: Buffer[] }> {
    const context = await browser.newContext({ permissions: ['clipboard-read', 'clipboard-write'] })
    const page = await context.newPage()
    const sent: Buffer[] = []
    page.on('websocket', (socket) => {
      socket.on('framesent', ({ payload }) => {
        if (typeof payload !== 'string') sent.push(payload)
      })
    })
    await page.goto(`http://127.0.0.1:${browserWire.port}/terminal#agent=${product.agentId}&token=${token}`)
    await isConnected(page)
    return { page, sent }
  }
  const isConnected = (page: Page) => page.waitForSelector('#state[data-kind=open]', WAIT)
  /** `lost` resolves when the connection is, from now on: also when a busy browser has a new one before anybody looks. */
  const watchLoss = (page: Page) =>
    page.evaluateHandle(() => ({
      lost: new Promise<void>((resolve) => {
        const state = document.getElementById('state') as HTMLElement
        new MutationObserver(() => {
          if (state.dataset['kind'] !== 'open') resolve()
        }).observe(state, { attributeFilter: ['data-kind'] })
      }),
    }))

  /** The whole text of the terminal that is shown, scrolled back or not. */
  const screenOf = (page: Page): Promise<string> =>
    page.evaluate(() =>
      [...document.querySelectorAll('.shell:not([hidden]) .xterm-rows > div')]
        .map((row) => row.textContent?.trimEnd())
        .join('\n'),
    )
  /** All lines from the one that is `first`, of which the page shows a screen at a time. */
  async function scrolledBack(page: Page, first: string): Promise<string[]> {
    const lines = (await screenOf(page)).split('\n')
    while (lines[0] !== first) {
      await page.keyboard.press('Shift+PageUp')
      let above: string[] = []
      // A page overlaps the next by a line. That something else changed on the screen says nothing of the key.
      const overlap = async () => {
        above = (await screenOf(page)).split('\n')
        return above.indexOf(lines[0] ?? '')
      }
      await expect.poll(overlap, WAIT).toBeGreaterThan(0)
      lines.unshift(...above.slice(0, above.indexOf(lines[0] ?? '')))
    }
    return lines
  }
  const shows = (page: Page, what: string | RegExp, wait = WAIT) =>
    expect.poll(() => screenOf(page), wait).toMatch(what)
  async function type(page: Page, line: string): Promise<void> {
    await page.keyboard.insertText(line)
    await page.keyboard.press('Enter')
  }

  test('a shell: the token leaves the address, what is typed runs, copy and paste, resize, two viewers, the end', async () => {
    const { session_id, admin_token } = await openTunnel()
    const { page } = await openPage(admin_token)
    expect(page.url()).not.toContain(admin_token)
    expect(
      await page.evaluate(() =>
        JSON.stringify([history.state, document.cookie, { ...localStorage }, { ...sessionStorage }]),
      ),
    ).not.toContain(admin_token)
    await type(page, 'PS1="$ "; clear; echo the-$((40+2))-end; stty size')
    await shows(page, /the-42-end\n\d+ \d+\n/)
    const before = /(\d+) (\d+)\n/.exec(await screenOf(page))?.[0]
    const rows = page.locator('.xterm-rows > div')
    const rowsBefore = await rows.count()
    await page.setViewportSize({ width: 700, height: 400 })
    // The terminal takes the size that the agent tells it, once the shell has it.
    await expect.poll(() => rows.count(), WAIT).toBeLessThan(rowsBefore)
    await type(page, 'clear; stty size')
    await expect.poll(async () => /(\d+) (\d+)\n/.exec(await screenOf(page))?.[0], WAIT).not.toBe(before)
    await type(page, 'clear; printf "\\033[?2004hthe-%s\\n" ready; cat')
    await shows(page, /^the-ready/m)
    await page.evaluate(() => navigator.clipboard.writeText('first\nsecond\u001b[201~third'))
    await page.keyboard.press('Control+Shift+V')
    // The end of a paste cannot be pasted.
    await shows(page, /second\[201~third/)
    await page.keyboard.press('Control+C')
    await screenshot(page, 'terminal-narrow')

    // Another one looks on: both see what either types.
    const { page: second } = await openPage(admin_token)
    const shell = new URLSearchParams(new URL(page.url()).hash.slice(1)).get('shell')
    await second.goto('about:blank')
    await second.goto(
      `http://127.0.0.1:${browserWire.port}/terminal#agent=${product.agentId}&shell=${shell}&token=${admin_token}`,
    )
    await isConnected(second)
    await second.keyboard.press('Enter')
    await type(second, 'clear; echo from-the-$((1+1))nd')
    await shows(second, /from-the-2nd/)
    await shows(page, /from-the-2nd/)
    expect(await page.textContent('#state')).toContain('1 more looks on')
    await second.context().close()

    await closeTunnel(session_id)
    await page.waitForSelector('#sign-in:not([hidden])', WAIT)
    expect(await page.textContent('#problem')).toContain('not the admin token')
    await page.context().close()
    for (const log of [product.logs.server, product.logs.agent])
      expect(readFileSync(log, 'utf8')).not.toContain(admin_token)
  })

  test('a selection is copied by the person’s own keys, and by nothing else', async () => {
    const { admin_token } = await openTunnel()
    const { page } = await openPage(admin_token)
    const clipboard = () => page.evaluate(() => navigator.clipboard.readText())
    await page.evaluate(() => navigator.clipboard.writeText('mine'))
    await type(page, 'PS1="$ "; clear; printf "the-%s is here\\nand goes on\\n" selected')
    await shows(page, /^the-selected is here\nand goes on$/m)
    await page.keyboard.press('Control+Shift+C')
    expect(await clipboard(), 'nothing is selected').toBe('mine')

    const box = await page.locator('.xterm-rows > div', { hasText: 'the-selected is here' }).last().boundingBox()
    const [x, y] = [box?.x ?? 0, box?.y ?? 0]
    await page.mouse.dblclick(x + 20, y + 8)
    expect(await clipboard(), 'to select is not to copy').toBe('mine')
    await page.keyboard.press('Control+Shift+C')
    await expect.poll(clipboard, WAIT).toBe('the-selected')

    // From the start of that line to the middle of the next.
    await page.mouse.move(x + 1, y + 8)
    await page.mouse.down()
    await page.mouse.move(x + 400, y + (box?.height ?? 0) + 8, { steps: 5 })
    await page.mouse.up()
    await page.keyboard.press('Control+Shift+C')
    await expect.poll(clipboard, WAIT).toBe('the-selected is here\nand goes on')
    await page.context().close()
  })

  test(`hostile output: ${HOSTILE_SEQUENCES.length} sequences, and nothing comes back`, async () => {
    expect(HOSTILE_SEQUENCES.length).toBeGreaterThanOrEqual(150)
    const { admin_token } = await openTunnel()
    const { page, sent } = await openPage(admin_token)
    await page.evaluate(() => navigator.clipboard.writeText('mine'))
    const title = await page.title()
    const file = join(directory, 'hostile')
    const reader = join(directory, 'hostile.py')
    // One by one, each followed by a question that is answered: when that answer is here, the sequence is done with.
    const all = [...HOSTILE_SEQUENCES, ...ANSWERED_SEQUENCES.map(([sequence]) => sequence)]
    writeFileSync(file, JSON.stringify(all.map((sequence) => Buffer.from(sequence, 'latin1').toString('base64'))))
    writeFileSync(reader, READER)
    await page.locator('.xterm-helper-textarea').first().focus()
    sent.length = 0
    await type(page, `clear; python3 ${reader} ${file} > ${file}.out 2>&1 < /dev/tty; echo done-$((1+1))`)
    await shows(page, /done-2/, LONG_WAIT)
    const answers = JSON.parse(readFileSync(`${file}.out`, 'utf8')) as string[]
    const unexpected = HOSTILE_SEQUENCES.flatMap((sequence, at) =>
      answers[at] === '' ? [] : [[sequence, answers[at]]],
    )
    expect(unexpected).toEqual([])
    for (const [at, [sequence, answer]] of ANSWERED_SEQUENCES.entries()) {
      expect((answers[HOSTILE_SEQUENCES.length + at] ?? '').replace('\x1b', ''), JSON.stringify(sequence)).toMatch(
        answer,
      )
    }
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe('mine')
    expect(await page.title()).toBe(title)
    const typed = Buffer.concat(sent.filter(([kind]) => kind === INPUT).map((frame) => frame.subarray(12))).toString()
    expect(typed, 'what was typed is what was typed').toMatch(/^clear; python3 .*\r$/)
    const reports = sent.filter(([kind]) => kind === REPORT).map((frame) => frame.subarray(5).toString())
    for (const report of reports) expect(report).toMatch(/^\[(?:\?1;2c|0n|\d+;\d+R)$/)
    await page.context().close()
  })

  test('a link in output is followed after a question only, and to the web only', async () => {
    const { admin_token } = await openTunnel()
    const { page } = await openPage(admin_token)
    await type(
      page,
      "clear; printf '\\033]8;;javascript:alert(1)\\033\\\\SCRIPT\\033]8;;\\033\\\\ \\033]8;;http://127.0.0.1:9/\\033\\\\WEBPAGE\\033]8;;\\033\\\\\\n'",
    )
    await shows(page, /^SCRIPT WEBPAGE$/m)
    const click = async (at: number) => {
      const box = await page.locator('.xterm-rows > div', { hasText: 'SCRIPT WEBPAGE' }).last().boundingBox()
      const [x, y] = [(box?.x ?? 0) + at, (box?.y ?? 0) + 8]
      await page.mouse.move(x - 3, y)
      await page.mouse.move(x, y)
      await page.mouse.click(x, y)
    }
    await click(20)
    await click(85)
    await page.waitForSelector('#ask[open]', WAIT)
    expect(await page.textContent('#ask-title')).toContain('Open this link?')
    expect(await page.textContent('#ask-text')).toBe('http://127.0.0.1:9/')
    await screenshot(page, 'terminal-link')
    await page.keyboard.press('Escape')
    expect(page.context().pages()).toHaveLength(1)
    await page.context().close()
  })

  test.each([
    ['the browser and the server', () => browserWire],
    ['the agent and the server', () => agentWire],
  ])('20 lost connections between %s: the screen is that of an unbroken run', async (_where, wire) => {
    const { admin_token } = await openTunnel()
    const { page } = await openPage(admin_token)
    const program = join(directory, 'count.py')
    writeFileSync(program, COUNTER)
    await type(page, `PS1="$ "; clear; python3 ${program}`)
    // Before that it has not begun to read what is typed.
    await shows(page, /line 3 of/)
    for (let cut = 0; cut < 20; cut++) {
      const seen = await screenOf(page)
      await expect.poll(() => screenOf(page), WAIT).not.toBe(seen)
      const losing = await watchLoss(page)
      wire().cutAll('rst')
      await losing.evaluate(({ lost }) => lost)
      // Typed into the dark: the program gets it once.
      await page.keyboard.press('x')
      await isConnected(page)
    }
    await page.keyboard.press('q')
    await shows(page, /typed 20 x/)
    const lineOf = (number: number) => `line ${number} of a program that goes on`
    const lines = await scrolledBack(page, lineOf(1))
    const end = lines.findIndex((line) => line.startsWith('typed'))
    expect(lines.slice(0, end)).toEqual(Array.from({ length: end }, (_, at) => lineOf(at + 1)))
    await page.context().close()
  })

  test('a wrong token is refused in a sentence, and the page can be used without a mouse', async () => {
    const context = await browser.newContext({ colorScheme: 'light' })
    const page = await context.newPage()
    await page.goto(`http://127.0.0.1:${browserWire.port}/terminal`)
    await page.keyboard.type(product.agentId)
    await page.keyboard.press('Tab')
    await page.keyboard.type('wrong')
    await page.keyboard.press('Enter')
    await expect.poll(() => page.textContent('#problem'), WAIT).toContain('not the admin token')
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('token')
    const { admin_token } = await openTunnel()
    await page.keyboard.type(admin_token)
    await page.keyboard.press('Enter')
    await isConnected(page)
    await page.keyboard.press('Control+Shift+F6')
    expect(await page.evaluate(() => document.activeElement?.getAttribute('role'))).toBe('tab')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await page.waitForSelector('[role=tab]:nth-child(2)[aria-selected=true]', WAIT)
    await isConnected(page)
    await page.keyboard.press('Control+Shift+F6')
    await page.keyboard.press('ArrowLeft')
    await page.waitForSelector('[role=tab]:nth-child(1)[aria-selected=true]', WAIT)
    await screenshot(page, 'terminal-light')
    await context.close()
  })
})

/** Writes each sequence, then asks for the state; what comes before that answer was made by the sequence. */
const READER = `
import base64, json, os, sys, termios, tty
out = os.open('/dev/tty', os.O_RDWR)
old = termios.tcgetattr(out)
answers = []
try:
    tty.setraw(out)
    for sequence in json.load(open(sys.argv[1])):
        os.write(out, base64.b64decode(sequence) + b'\\x18\\x1b[5n')
        got = b''
        while not got.endswith(b'\\x1b[0n'):
            got += os.read(out, 1000)
        rest = got[:-4]
        if base64.b64decode(sequence) == b'\\x1b[5n':
            while not got.endswith(b'\\x1b[0n\\x1b[0n'):
                got += os.read(out, 1000)
            rest = got[:-4]
        answers.append(rest.decode('latin1'))
finally:
    os.write(out, b'\\x1bc')
    termios.tcsetattr(out, termios.TCSANOW, old)
print(json.dumps(answers))
`

/** Counts until somebody types q, and says how many x were typed. */
const COUNTER = `
import os, select, sys, termios, tty
old = termios.tcgetattr(0)
typed = b''
number = 0
try:
    tty.setcbreak(0)
    while b'q' not in typed:
        number += 1
        print('line', number, 'of a program that goes on', flush=True)
        if select.select([0], [], [], 0.05)[0]:
            typed += os.read(0, 1000)
finally:
    termios.tcsetattr(0, termios.TCSANOW, old)
print('typed', typed.count(b'x'), 'x')
`
