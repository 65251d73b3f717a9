import { equal } from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../../src/free-port.ts'
import { requireProgram } from '../../../src/programs.ts'
import { runProgram } from '../../../src/run-program.ts'
import { startApplication } from '../../../src/zoo/application.ts'
import { type Application, fileOf, type Visit } from '../application.ts'

const FILE_BYTES = 3_000_000

/** A folder served by WsgiDAV, used by programs rather than by a browser. */
export const webdav: Application = {
  name: 'WebDAV',
  profile: 'generic',
  programs: ['wsgidav', 'cadaver', 'curl'],
  async start(directory) {
    const root = join(directory, 'root')
    mkdirSync(root)
    writeFileSync(join(root, 'there.txt'), 'was there\n')
    const port = await freePort()
    const words = ['--host', '127.0.0.1', '--port', String(port), '--root', root, '--auth', 'anonymous', '--no-config']
    return startApplication({ port, cwd: directory, command: [requireProgram('wsgidav'), ...words] })
  },
  steps: {
    async 'lists its files in the browser'({ page }) {
      await page.waitForSelector('a:has-text("there.txt")')
    },
    async 'a WebDAV client uploads, lists, moves and downloads'(visit) {
      const { directory, door } = visit
      const [sent, got] = [join(directory, `${fileOf(door)}.sent`), join(directory, `${fileOf(door)}.got`)]
      writeFileSync(sent, randomBytes(FILE_BYTES))
      if (visit.door === 'host') await useCurl(visit, sent, got)
      else await useCadaver(visit, sent, got)
      equal(readFileSync(got).equals(readFileSync(sent)), true, 'what came down is what went up')
      const stored = join(directory, 'root', `${fileOf(door)}.moved`)
      equal(readFileSync(stored).equals(readFileSync(sent)), true, 'and what is stored')
    },
  },
}

/** cadaver keeps no cookies and sends no field of ours, so it uses the address with the token, or the local port. */
async function useCadaver({ url, door, directory }: Visit, sent: string, got: string): Promise<void> {
  const name = fileOf(door)
  const commands = [`put ${sent} ${name}`, 'ls', `move ${name} ${name}.moved`, `get ${name}.moved ${got}`, 'quit']
  const input = `${commands.join('\n')}\n`
  const address = new URL(url)
  address.hostname = '127.0.0.1'
  const { stdout } = await runProgram(requireProgram('cadaver'), ['-t', address.href], {
    input,
    cwd: directory,
    env: { HOME: directory },
  })
  if (!stdout.includes(name) || /failed/i.test(stdout)) throw new Error(`cadaver:\n${stdout}`)
}

/** At the host door a client without cookies shows the token in a field. */
async function useCurl({ url, page, door }: Visit, sent: string, got: string): Promise<void> {
  const token = /\/tunnel\/([^/]+)\//.exec(url)?.[1] ?? ''
  const base = `${new URL(page.url()).origin}/${fileOf(door)}`
  const curl = async (...words: string[]) => {
    const common = ['--silent', '--show-error', '--fail', '--header', `Cyberun-Tunnel-Token: ${token}`]
    const { status, stdout, stderr } = await runProgram(requireProgram('curl'), [...common, ...words])
    if (status !== 0) throw new Error(`curl ${words.join(' ')}: ${stderr}`)
    return stdout
  }
  await curl('--upload-file', sent, base)
  const listing = await curl('--request', 'PROPFIND', '--header', 'Depth: 1', `${new URL(base).origin}/`)
  if (!listing.includes(fileOf(door))) throw new Error(`PROPFIND does not list it:\n${listing}`)
  await curl('--request', 'MOVE', '--header', `Destination: ${base}.moved`, base)
  await curl('--output', got, `${base}.moved`)
}
