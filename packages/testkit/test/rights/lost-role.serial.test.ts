import { mkdtempSync, rmSync } from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Client, createClient } from '@cyberun/api/client'
import { TCP_SUBPROTOCOL } from '@cyberun/link'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { type EndlessService, type Flow, flow, startEndless } from '../../src/endless.ts'
import { type Product, startProduct } from '../../src/product.ts'
import { openShell, type ShellClient } from '../../src/shell-client.ts'

/** What a member of a team has under way, over real connections, when an admin takes the role that let them begin it. */

const WAIT = { timeout: 20_000, interval: 10 }
/** A right that has ended is seen to have ended within this. */
const ENDED_MS = 1_000
const PASSWORD = 'a member keeps this to themself'

let directory: string
let product: Product
let owner: Client
let ownerToken: string
let taskId: string
let service: EndlessService

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-lost-role-'))
  service = await startEndless()
  product = await startProduct(directory, { terminal: true })
  const { emailAddress, userPassword } = product.control
  ownerToken = await signIn(emailAddress, userPassword)
  owner = clientOf(ownerToken)
  const workflow = { workflow_slug: 'for-nobody', display_name: 'For nobody', tool_type: 'demo' as const }
  const body = { ...workflow, workflow_json: {}, required_labels: ['a-machine-there-is-not'] }
  await owner.call('POST /workflows/import', { body })
  const run = { params: { slug: 'for-nobody' }, body: { parameters: {} } }
  taskId = (await owner.call('POST /r/workflows/slug/{slug}/run', run)).task_id
})
afterAll(async () => {
  await product[Symbol.asyncDispose]()
  await service[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

function clientOf(token: string): Client {
  const { controlUrl, teamId } = product.control
  return createClient({ baseUrl: controlUrl, token, teamId })
}

async function signIn(email_address: string, user_password: string): Promise<string> {
  const anyone = createClient({ baseUrl: product.control.controlUrl })
  return (await anyone.call('POST /auth/login', { body: { email_address, user_password } })).access_token
}

/** A new person, with the role member in the team. */
async function joinTeam(email_address: string): Promise<{ userId: string; token: string }> {
  const invitation = { email_address, invitation_role: 'member' as const }
  const { invitation_token } = await owner.call('POST /invitations', { body: invitation })
  const { id } = await createClient({ baseUrl: product.control.controlUrl }).call('POST /invitations/register', {
    body: { invitation_token, display_name: 'Member', user_password: PASSWORD },
  })
  return { userId: id, token: await signIn(email_address, PASSWORD) }
}

interface UnderWay {
  flows: Flow[]
  shells: ShellClient[]
}

/** Streams of every kind through tunnels of their own, shells by every right they have, and the events of a task. */
async function begin(token: string): Promise<UnderWay> {
  const client = clientOf(token)
  const { controlUrl, teamId } = product.control
  const { agentId } = product
  const open = (tunnel_protocol: 'http' | 'tcp') =>
    client.call('POST /agents/{agentId}/tunnel', {
      params: { agentId },
      body: { target_port: service.port, tunnel_protocol, ...(tunnel_protocol === 'http' && { profile: 'generic' }) },
    })
  const { tunnel_url, admin_token } = await open('http')
  const relay = (await open('tcp')).tunnel_url
  const { raw_key } = await client.call('POST /credentials', { body: { kind: 'integration', display_name: 'own' } })
  const headers = { Authorization: `Bearer ${token}`, 'X-Team-ID': teamId }
  const look = (opening: object) => openShell(controlUrl, agentId, opening)
  return {
    flows: [
      await flow(get(`${tunnel_url}download`)),
      await flow(get(`${tunnel_url}events`)),
      await flow(new WebSocket(tunnel_url.replace('http', 'ws'))),
      await flow(new WebSocket(relay, [TCP_SUBPROTOCOL]), 'GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n'),
      await flow(get(`${controlUrl}/api/v1/r/tasks/${taskId}/events`, { headers })),
    ],
    shells: [
      await look({ bearer: token, team_id: teamId }),
      await look({ bearer: raw_key }),
      await look({ admin_token }),
    ],
  }
}

function end({ flows, shells }: UnderWay): Promise<unknown> {
  for (const each of flows) each.destroy()
  return Promise.all(shells.map((shell) => shell.leave()))
}

describe('within a second of the call, all of it has ended and nothing of anybody else, when a member', {
  timeout: 60_000,
}, () => {
  test.each<[name: string, lose: (userId: string) => Promise<unknown>]>([
    ['is removed', (userId) => owner.call('DELETE /members/{userId}', { params: { userId } })],
    [
      'becomes a viewer',
      (userId) => owner.call('PUT /members/{userId}', { params: { userId }, body: { role: 'viewer' } }),
    ],
  ])('%s', async (name, lose) => {
    const member = await joinTeam(`${name.replaceAll(' ', '-')}@example.org`)
    const [theirs, others] = [await begin(member.token), await begin(ownerToken)]
    await expect.poll(() => [...theirs.flows, ...others.flows].map(({ seen }) => seen() > 0), WAIT).not.toContain(false)

    const began = performance.now()
    await lose(member.userId)
    const codes = await Promise.all(theirs.shells.map(({ closed }) => closed))
    await Promise.all(theirs.flows.map(({ ended }) => ended))
    const took = performance.now() - began
    expect(took, 'milliseconds to the last end').toBeLessThan(ENDED_MS)
    expect(codes).toEqual([4401, 4401, 4401])

    const before = others.flows.slice(0, -1).map(({ seen }) => seen())
    await expect
      .poll(() => others.flows.slice(0, -1).map(({ seen }, i) => seen() > (before[i] ?? 0)), WAIT)
      .toEqual([...[true, true, true, true]])
    for (const shell of others.shells) shell.type('echo still-$((40+2))')
    await expect.poll(() => others.shells.map(({ output }) => output.includes('still-42')), WAIT).not.toContain(false)
    await end(others)
  })
})
