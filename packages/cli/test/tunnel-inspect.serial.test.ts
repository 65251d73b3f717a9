import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { type Installation, startInstallation } from '../../testkit/src/installation.ts'
import { runProgram } from '../../testkit/src/run-program.ts'

/** `cyberun tunnel inspect` against a server, as somebody uses it who looks for what went wrong. */

const SECRET = 'sk-not-to-be-shown-to-anybody'
let directory: string
let installation: Installation
/** What reached the service, oldest first. */
const reached: { line: string; authorization: IncomingHttpHeaders['authorization']; body: string }[] = []
const service = createServer(async (request, response) => {
  let body = ''
  for await (const chunk of request) body += chunk
  reached.push({ line: `${request.method} ${request.url}`, authorization: request.headers.authorization, body })
  response.writeHead(201, { 'Content-Type': 'text/plain' }).end('the answer')
})

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-inspect-'))
  installation = await startInstallation(directory)
  service.listen(0, '127.0.0.1')
  await once(service, 'listening')
})
afterAll(async () => {
  service.closeAllConnections()
  service.close()
  await installation[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

function words(...options: string[]): [program: string, args: string[], env: Readonly<Record<string, string>>] {
  const { command, agentId } = installation
  const [program = '', ...args] = [...command.words, 'tunnel', 'inspect', agentId, ...options]
  return [program, args, command.env]
}

async function inspect(...options: string[]): Promise<string> {
  const [program, args, env] = words(...options)
  const { status, stdout, stderr } = await runProgram(program, args, { env })
  if (status !== 0) throw new Error(`exit code ${status}: ${stderr}`)
  return stdout
}

test('a request is followed, looked at, copied as curl and sent again, and its secrets are shown nowhere', async () => {
  const { tunnelUrl } = await installation.openTunnel((service.address() as AddressInfo).port, 'http', {
    profile: 'generic',
  })
  const ask = (path: string) =>
    fetch(`${tunnelUrl}${path}`, { method: 'POST', headers: { Authorization: `Bearer ${SECRET}` }, body: 'a question' })
  await ask('before?token=hidden')
  expect(JSON.parse(await inspect('--bodies', '--json')), 'it was off').toMatchObject({
    ...{ is_enabled: true, is_body_kept: true, entry_list: [] },
  })

  const [program, args, env] = words('--follow', '--json')
  const following = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void following.kill())
  const lines = createInterface({ input: following.stdout })[Symbol.asyncIterator]()
  await ask('asked?token=hidden')
  const followed = JSON.parse(String((await lines.next()).value))
  expect(followed).toMatchObject({ number: 1, method: 'POST', path: '/asked?token=***', status: 201, failure: null })
  const { total_ms, visitor_ms, edge_ms, agent_ms, service_ms } = followed.timing
  expect(visitor_ms + edge_ms + agent_ms + service_ms).toBeCloseTo(total_ms, 0)
  following.kill('SIGINT')
  await once(following, 'exit')

  const shown = await inspect('--show', '1')
  expect(shown).toMatch(/^Request\n(?: {2}.*\n)* {2}Authorization: Bearer \*\*\*\n/m)
  expect(shown).toMatch(/\n {2}a question\n\nAnswer 201\n/)
  expect(shown).toMatch(/\n {2}the answer\n$/)
  const curl = await inspect('--curl', '1')
  expect(curl).toContain(`${tunnelUrl}asked`)
  expect(curl).toContain('a question')

  expect(await inspect('--replay', '1')).toBe('Request 1, sent again as 2, was answered 201.\n')
  expect(reached.slice(1)).toEqual(
    Array(2).fill({ line: 'POST /asked?token=hidden', authorization: `Bearer ${SECRET}`, body: 'a question' }),
  )
  const all = await inspect('--json')
  expect(JSON.parse(all).entry_list).toMatchObject([{ number: 1 }, { number: 2, replay_of: 1 }])
  for (const text of [JSON.stringify(followed), shown, curl, all]) {
    expect(text).not.toContain(SECRET)
    expect(text).not.toContain('hidden')
  }

  expect(await inspect('--off')).toBe('The inspector is off, and what it kept is forgotten.\n')
  await expect(inspect('--show', '1')).rejects.toThrow(/^exit code 4: /)
})
