import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Client, createClient } from '@cyberun/api/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Child } from '../../src/child.ts'
import type { ServerVerbs } from '../../src/processes/server.ts'
import { startAgentProcess, startServerProcess } from '../../src/processes.ts'
import { isAlive } from '../../src/procfs.ts'
import { type Product, startProduct } from '../../src/product.ts'
import { openShell, type ShellClient } from '../../src/shell-client.ts'

/** Shells of real processes, over real connections, and what is left of them when the right to them has ended. */

const WAIT = { timeout: 20_000, interval: 10 }
/** A right that has ended is seen to have ended within this. */
const ENDED_MS = 1_000

let directory: string
let product: Product
let client: Client
/** The one that comes after the product's own was killed. */
let server: Child<ServerVerbs> | undefined
let signIn: { email_address: string; user_password: string }
const service = createServer((_request, response) => void response.end('ok'))

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-ended-rights-'))
  product = await startProduct(directory, { terminal: true })
  const { controlUrl, emailAddress, userPassword, teamId } = product.control
  signIn = { email_address: emailAddress, user_password: userPassword }
  const { access_token } = await createClient({ baseUrl: controlUrl }).call('POST /auth/login', { body: signIn })
  client = createClient({ baseUrl: controlUrl, token: access_token, teamId })
  service.listen(0, '127.0.0.1')
  await once(service, 'listening')
})
afterAll(async () => {
  service.close()
  await server?.[Symbol.asyncDispose]()
  await product[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

const look = (opening: object): Promise<ShellClient> => openShell(product.control.controlUrl, product.agentId, opening)

/** Has the shell start what ignores every polite signal and leaves its group; resolves with both process ids. */
async function startStubborn(shell: ShellClient): Promise<number[]> {
  shell.type('echo shell-$$-end; setsid sh -c \'trap "" HUP TERM INT; echo deaf-$$-end; sleep 1000\' &')
  const found = () => [/shell-(\d+)-end/, /deaf-(\d+)-end/].map((name) => Number(name.exec(shell.output)?.[1] ?? 0))
  await expect.poll(() => found().every((pid) => pid > 0), WAIT).toBe(true)
  expect(found().map(isAlive)).toEqual([true, true])
  return found()
}

/** A shell that somebody opened, used and left. */
async function leaveShell(opening: object): Promise<number[]> {
  const shell = await look(opening)
  const pids = await startStubborn(shell)
  await shell.leave()
  return pids
}

async function openTunnel(by: Client): Promise<{ session_id: string; admin_token: string }> {
  const { port } = service.address() as AddressInfo
  const body = { target_port: port, tunnel_protocol: 'http', profile: 'generic' } as const
  return by.call('POST /agents/{agentId}/tunnel', { params: { agentId: product.agentId }, body })
}

const answers = async (shell: ShellClient): Promise<void> => {
  shell.type('echo still-$((40+2))')
  await expect.poll(() => shell.output, WAIT).toContain('still-42')
}

describe('when a right ends', { timeout: 120_000 }, () => {
  test('a key: its sockets close within a second, and its shells end with all they started, watched or not', async () => {
    const { controlUrl, teamId } = product.control
    const key = await client.call('POST /credentials', { body: { kind: 'integration', display_name: 'leaked' } })
    const other = await client.call('POST /credentials', { body: { kind: 'integration', display_name: 'kept' } })
    const { session_id, admin_token } = await openTunnel(createClient({ baseUrl: controlUrl, token: key.raw_key }))
    const { access_token } = await createClient({ baseUrl: controlUrl }).call('POST /auth/login', { body: signIn })

    const watched = [await look({ bearer: key.raw_key }), await look({ admin_token })]
    const pids = [await leaveShell({ bearer: key.raw_key }), await leaveShell({ admin_token })].flat()
    for (const shell of watched) pids.push(...(await startStubborn(shell)))
    // Those of the same person's other rights are nobody else's business.
    const kept = [await look({ bearer: other.raw_key }), await look({ bearer: access_token, team_id: teamId })]
    const keptPids = await leaveShell({ bearer: other.raw_key })

    const began = performance.now()
    const revoked = client.call('DELETE /credentials/{id}', { params: { id: key.id } })
    expect(await Promise.all(watched.map(({ closed }) => closed))).toEqual([4401, 4401])
    const took = performance.now() - began
    expect(took, 'milliseconds to the last close').toBeLessThan(ENDED_MS)
    await revoked
    await expect.poll(() => pids.filter(isAlive), WAIT).toEqual([])
    for (const shell of kept) await answers(shell)
    expect(keptPids.map(isAlive)).toEqual([true, true])
    await expect(look({ admin_token })).rejects.toThrow('401')

    await expectAudit(key.id, session_id, [key.raw_key, admin_token])
    for (const shell of kept) await shell.leave()
    await client.call('DELETE /credentials/{id}', { params: { id: other.id } })
    await expect.poll(() => keptPids.filter(isAlive), WAIT).toEqual([])
  })

  /** Who opened a terminal by which right, when, and when it ended, as the API tells an admin of the team. */
  async function expectAudit(credentialId: string, sessionId: string, secrets: readonly string[]): Promise<void> {
    const records = async (action: string) =>
      (await client.call('GET /audit', { query: { action, per_page: 100 } })).audit_list
    for (const actor of [`credential:${credentialId}`, `tunnel:${sessionId}`]) {
      const of = async (action: string) => (await records(action)).filter((record) => record.actor === actor)
      // Newest first; the one that was left closed before the one that was cut off.
      await expect.poll(async () => (await of('terminal.closed')).length, WAIT).toBe(2)
      const [opened, closed] = [await of('terminal.opened'), await of('terminal.closed')]
      expect(opened).toHaveLength(2)
      for (const { subject, detail } of [...opened, ...closed]) {
        expect({ subject, address: detail['address'] }).toEqual({ subject: product.agentId, address: '127.0.0.1' })
      }
      for (const { created_at, detail } of closed) {
        const its = opened.find((record) => record.detail['viewer'] === detail['viewer'])
        const seconds = (Date.parse(created_at) - Date.parse(its?.created_at ?? '')) / 1000
        expect(Math.abs(seconds - Number(detail['seconds']))).toBeLessThan(2)
        expect(detail['shell']).toMatch(/^[0-9a-f]{32}$/)
      }
    }
    const all = JSON.stringify([await records('terminal.opened'), await records('terminal.closed')])
    for (const secret of secrets) expect(all).not.toContain(secret)
  }

  test('a sign-in: its shells end, also those that nobody looks at', async () => {
    const { controlUrl, teamId } = product.control
    const anyone = createClient({ baseUrl: controlUrl })
    const { access_token, refresh_token } = await anyone.call('POST /auth/login', { body: signIn })
    const opening = { bearer: access_token, team_id: teamId }
    const pids = await leaveShell(opening)
    const watched = await look(opening)
    await anyone.call('POST /auth/refresh', { body: { refresh_token } })
    // A refresh token that comes twice was stolen: the whole sign-in is over.
    await expect(anyone.call('POST /auth/refresh', { body: { refresh_token } })).rejects.toThrow()
    expect(await watched.closed).toBe(4401)
    await expect.poll(() => pids.filter(isAlive), WAIT).toEqual([])
  })

  test('a server that was killed knows of no shell, and yet they end with their key and their tunnels', async () => {
    const { controlUrl } = product.control
    const key = await client.call('POST /credentials', { body: { kind: 'integration', display_name: 'before' } })
    const [closed, revoked] = [await openTunnel(client), await openTunnel(client)]
    const openings = [{ bearer: key.raw_key }, ...[closed, revoked].map(({ admin_token }) => ({ admin_token }))]
    const pids: number[] = []
    for (const opening of openings) pids.push(...(await leaveShell(opening)))
    await product.server[Symbol.asyncDispose]() // SIGKILL
    server = startServerProcess(product.logs.server)
    const ports = { control: Number(new URL(controlUrl).port), edge: product.edgePort }
    await server.call('startAgain', { dataDir: product.dataDir, logLevel: 'warn', ports })
    const linked = async () => (await client.call('GET /agents', {})).agent_list.map(({ agent_id }) => agent_id)
    await expect.poll(linked, WAIT).toEqual([product.agentId])
    expect(pids.filter(isAlive)).toEqual(pids)

    const params = { agentId: product.agentId }
    await client.call('DELETE /credentials/{id}', { params: { id: key.id } })
    await client.call('DELETE /agents/{agentId}/tunnel', { params, query: { session_id: closed.session_id } })
    await client.call('POST /agents/{agentId}/tunnel/{sessionId}/revoke', {
      params: { ...params, sessionId: revoked.session_id },
    })
    await expect.poll(() => pids.filter(isAlive), WAIT).toEqual([])
  })

  test('an agent that is killed: its next process ends what its shells had started', async () => {
    const { edgePort, agentKey, agentId } = product
    const key = await client.call('POST /credentials', { body: { kind: 'integration', display_name: 'left' } })
    const [, deaf = 0] = await leaveShell({ bearer: key.raw_key })
    await product.agent[Symbol.asyncDispose]() // SIGKILL
    expect(isAlive(deaf), 'it ignores the loss of its terminal').toBe(true)
    await using again = startAgentProcess(product.logs.agent)
    const stateDir = join(directory, 'agent')
    const gatewayUrl = `ws://127.0.0.1:${edgePort}`
    await again.call('start', { gatewayUrl, agentKey, agentId, stateDir, logLevel: 'warn', tools: { terminal: true } })
    await expect.poll(() => isAlive(deaf), WAIT).toBe(false)
  })
})
