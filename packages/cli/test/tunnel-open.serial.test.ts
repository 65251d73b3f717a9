import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, get, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { renderUnicodeCompact } from 'uqr'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { BROWSER_DOORS } from '../../testkit/src/browser-doors.ts'
import { type Installation, startInstallation } from '../../testkit/src/installation.ts'
import { lacksPrograms, requireProgram } from '../../testkit/src/programs.ts'
import { startOnPty } from '../../testkit/src/pty-program.ts'

/** `cyberun tunnel open` as a person has it in front of them: on a terminal, where it stays and takes keys. */

let directory: string
let installation: Installation
/** Sends on, for as long as somebody listens. */
const service = createServer((_request, response) => {
  const writing = setInterval(() => void (response.writableNeedDrain || response.write('x'.repeat(4_096))), 20)
  response.on('close', () => clearInterval(writing))
})

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-tunnel-open-'))
  installation = await startInstallation(directory)
  service.listen(0, '127.0.0.1')
  await once(service, 'listening')
})
afterEach(async () => {
  for (const { session_id } of await list()) await installation.closeTunnel(session_id)
})
afterAll(async () => {
  service.closeAllConnections()
  service.close()
  await installation[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

function open({ command, agentId } = installation) {
  const { port } = service.address() as AddressInfo
  const words = [...command.words, 'tunnel', 'open', agentId, String(port), '--profile', 'generic']
  const program = startOnPty(words, command.env, { cols: 100, rows: 70 })
  const text = () => program.screen().join('\n')
  return { program, text, shows: (what: RegExp) => expect.poll(text).toMatch(what) }
}

/** The addresses that stand on the screen, the last at the end. */
const urlsOn = (text: string): string[] => [...text.matchAll(/^http:\S+\/tunnel\/\S+$/gm)].map(([url]) => url)

const list = async () => {
  const { client, agentId } = installation
  return (await client.call('GET /agents/{agentId}/tunnel', { params: { agentId } })).session_list
}

const trimmed = (code: string): string => code.replaceAll(/ +$/gm, '')

test('the address, its code, when it ends, who comes and what goes through; extended, revoked and ended by a key', async () => {
  const { program, text, shows } = open()
  await using _program = program
  await shows(/^0 viewers; ends in 30 min unless it is used$/m)
  await shows(/^to the service 0 B\/s, .* in all; back 0 B\/s, .* in all$/m)
  await shows(/^e extend {3}r revoke: new addresses {3}q leave it open {3}x end it$/m)
  const [url = ''] = urlsOn(text())
  expect((await list()).map(({ tunnel_url }) => tunnel_url)).toEqual([url])
  expect(text()).toContain(trimmed(renderUnicodeCompact(url, { border: 2 })).trim())

  const visit = get(url, { headers: { 'User-Agent': 'a-visitor/1.0' } })
  visit.on('error', () => {}) // it is cut off, as it should be
  const [answer] = (await once(visit, 'response')) as [IncomingMessage]
  const cut = new Promise((resolve) => answer.on('error', () => {}).on('close', resolve))
  answer.resume()
  await shows(/^1 viewer; ends in /m)
  await shows(/^ {2}127\.0\.0\.1 {2}a-visitor\/1\.0 {2}for .*, 1 open$/m)
  await shows(/; back [\d.]+ KiB\/s, [\d.]+ KiB in all$/m)
  expect(text().match(/viewers?; ends/g), 'the lines are drawn anew, not once more').toHaveLength(1)

  const [before] = await list()
  program.type('e')
  await expect.poll(program.output).toContain('extended: it stays for 30 minutes from now without use')
  const [extended] = await list()
  expect(Date.parse(extended?.expires_at ?? '')).toBeGreaterThan(Date.parse(before?.expires_at ?? ''))

  program.type('r')
  await expect.poll(program.output).toContain('revoked: who had the old addresses was cut off')
  await cut
  const renewed = urlsOn(text()).at(-1) ?? ''
  expect(renewed).not.toBe(url)
  expect((await list()).map(({ tunnel_url }) => tunnel_url)).toEqual([renewed])
  expect(text()).toContain(trimmed(renderUnicodeCompact(renewed, { border: 2 })).trim())
  expect((await fetch(url)).status).toBe(404)

  program.type('x')
  await shows(/^The tunnel is closed\.$/m)
  expect(await program.ended).toBe(0)
  expect(await list()).toEqual([])
})

/** What a camera before a screen with this picture takes codes to say; as a camera, it knows no light on dark codes. */
function readCodes(picture: Buffer): string[] {
  const file = join(directory, 'screen.pgm')
  writeFileSync(file, picture)
  const { stdout } = spawnSync(requireProgram('zbarimg'), ['--quiet', '--raw', file], { encoding: 'utf8' })
  return stdout.split('\n').filter((line) => line !== '')
}

test.skipIf(lacksPrograms('zbarimg'))('a phone reads the address off the terminal, be that dark or light', async () => {
  const { program, text, shows } = open()
  await using _program = program
  await shows(/^e extend/m)
  const [url = ''] = urlsOn(text())
  expect(url).not.toBe('')
  for (const paper of ['dark', 'light'] as const) expect(readCodes(program.picture(paper)), paper).toEqual([url])
  program.type('x')
  await shows(/^The tunnel is closed\.$/m)
})

test.each([
  ['q', 'q'],
  ['Ctrl-C', '\x03'],
])('%s leaves it open', async (_name, key) => {
  const { program, shows } = open()
  await using _program = program
  await shows(/^e extend/m)
  program.type(key)
  await shows(/^The tunnel stays open\.$/m)
  expect(await program.ended).toBe(0)
  expect(await list()).toHaveLength(1)
})

test('a tunnel that somebody else ends is told so', async () => {
  const { program, shows } = open()
  await using _program = program
  await shows(/^e extend/m)
  for (const { session_id } of await list()) await installation.closeTunnel(session_id)
  await shows(/^The tunnel has ended: it was closed elsewhere, or nobody used it\.$/m)
  expect(await program.ended).toBe(0)
})

test.each<[name: string, settings: Record<string, string>, warning: RegExp]>([
  [
    'run in a sandbox',
    {},
    /^warning: Browsers have no address of its own for this tunnel, so its pages run in a sandbox/m,
  ],
  ['are refused', { CYBERUN_EDGE_PATH_PAGES: 'refuse' }, /^warning: Browsers have no .* so its pages are not shown/m],
  [
    'run free',
    { CYBERUN_EDGE_DANGEROUSLY_ALLOW_PATH_PAGES: 'true' },
    /^warning: This tunnel shares its address with all others .* docs\/tunnels\.md lists what cannot be stopped\.$/m,
  ],
])(
  'where a tunnel has the path door alone, and its pages %s, whoever opens it is warned',
  async (name, settings, warning) => {
    const path = await BROWSER_DOORS.path.settings()
    await using alone = await startInstallation(join(directory, name.replaceAll(' ', '-')), { ...path, ...settings })
    const { program, shows } = open(alone)
    await using _program = program
    await shows(/^e extend/m)
    expect(program.output().replaceAll('\r', '')).toMatch(warning)
    program.type('x')
    await program.ended
  },
)
