import { request } from 'node:http'
import { temporaryMachineKey } from '@cyberun/agent'
import { DialError, type DialFailure, encodeLine, type Greeting, type Link, lineEvents } from '@cyberun/link'
import { type AgentHello, type CloseReason, LinkClosedError, StreamResetError } from '@cyberun/protocol'
import { describe, expect, test } from 'vitest'
import { createRouting } from '../../../server/src/routing/routing.ts'
import { revokeCredential } from '../../../server/src/store/credentials.ts'
import { until } from '../../src/until.ts'
import { type AgentsWorld, agentsWorld, dialAs, helloOf, STATS } from './agents-world.ts'

/** How a dial failed. */
async function failureOf(dial: Promise<Link>): Promise<DialFailure> {
  const error = await dial.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof DialError)) throw new Error(`expected a refusal, got ${String(error)}`)
  return error.failure
}

async function refusalOf(dial: Promise<Link>): Promise<CloseReason> {
  const failure = await failureOf(dial)
  if (failure.kind !== 'refused') throw new Error(`expected a refused hello, got ${JSON.stringify(failure)}`)
  return failure.reason
}

const team = (world: AgentsWorld): string => world.owner.teamId

describe('who may connect', () => {
  test('a key of kind agent, which is then listed', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const link = await dialAs(world, rawKey, helloOf(temporaryMachineKey()))
    expect(link.welcome.fields['gateway_id']).toBe('gw-test')
    await until(() => world.agents.presence(team(world), 'studio-7') === 'linked')
    expect(world.agents.list(team(world))).toMatchObject([
      { agent_id: 'studio-7', agent_status: 'idle', agent_labels: ['test'], gateway_id: 'gw-test', tasks_completed: 0 },
    ])
    expect(world.agents.list('another-team')).toEqual([])
    expect(world.agents.counts).toMatchObject({ linked: 1, between: 0 })
  })

  test('no key, a mistyped one, an unknown one, and one of another kind are 401 and say so', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const revoked = await world.newKey()
    await world.identity.revokeCredential(world.owner, revoked.id)
    const integration = await world.identity.createCredential(world.owner, { kind: 'integration', displayName: 'sk' })
    const cases: readonly [key: string, message: RegExp][] = [
      [`${rawKey.slice(0, -1)}${rawKey.endsWith('0') ? '1' : '0'}`, /is mistyped/],
      [revoked.rawKey, /is not known here, has expired or was revoked/],
      [integration.rawKey, /starts with ak-/],
    ]
    for (const [key, message] of cases) {
      const failure = await failureOf(dialAs(world, key, helloOf(temporaryMachineKey())))
      expect(failure).toMatchObject({ kind: 'http', status: 401, message: expect.stringMatching(message) as unknown })
      expect(JSON.stringify(failure)).not.toContain(key)
    }
    expect(await upgradeStatus(world, {})).toEqual({ status: 401, code: 'unauthenticated' })
    expect(world.lines.join('')).not.toContain(revoked.rawKey)
  })

  test('a browser may not, whatever key it has', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const headers = { authorization: `Bearer ${rawKey}`, origin: world.gatewayUrl.replace('ws:', 'http:') }
    expect(await upgradeStatus(world, headers)).toEqual({ status: 403, code: 'forbidden' })
  })

  test('too many wrong keys from an address are 429 with a time', async () => {
    const world = await agentsWorld()
    const { rawKey, id } = await world.newKey()
    await world.identity.revokeCredential(world.owner, id)
    let failure: DialFailure | undefined
    for (let i = 0; i < 200 && (failure?.kind !== 'http' || failure.status === 401); i++) {
      failure = await failureOf(dialAs(world, rawKey, helloOf(temporaryMachineKey())))
    }
    expect(failure).toMatchObject({ kind: 'http', status: 429, retryAfterMs: expect.any(Number) as unknown })
  })

  test('who comes too fast is asked to come back', async () => {
    const now = Date.now()
    const world = await agentsWorld({ limits: { acceptsPerSecond: 1, acceptBurst: 1 }, now: () => now })
    const { rawKey } = await world.newKey()
    await dialAs(world, rawKey, helloOf(temporaryMachineKey(), 'a'))
    const failure = await failureOf(dialAs(world, rawKey, helloOf(temporaryMachineKey(), 'b')))
    expect(failure).toMatchObject({ kind: 'http', status: 503, retryAfterMs: 1_000 })
  })
})

describe('which machine', () => {
  test('the same one evicts its old link at once', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const machine = temporaryMachineKey()
    const old = await dialAs(world, rawKey, helloOf(machine))
    const next = await dialAs(world, rawKey, helloOf(machine))
    expect(await old.closed).toMatchObject({ code: 'evicted' })
    await expect.poll(() => Object.fromEntries(world.agents.counts.closed)).toEqual({ evicted: 1 })
    await until(() => world.agents.linkOf(team(world), 'studio-7') !== undefined)
    expect(world.agents.list(team(world)).length).toBe(1)
    expect(world.agents.counts.linked).toBe(1)
    expect(next.stats.streams).toBe(0)
  })

  test('another one is refused while the first is listed, and may take over once it is gone', async () => {
    const world = await agentsWorld({ limits: { resumeWindowMs: 50 } })
    const { rawKey } = await world.newKey()
    const first = await dialAs(world, rawKey, helloOf(temporaryMachineKey()))
    const other = temporaryMachineKey()
    const refusal = await refusalOf(dialAs(world, rawKey, helloOf(other)))
    expect(refusal).toMatchObject({ code: 'agent_id_taken', retryAfterMs: 50 })
    expect(refusal.message).toMatch(/another machine .* studio-7.* agent_id in cyberun-agent.yaml/)
    expect(world.agents.presence(team(world), 'studio-7')).toBe('linked')

    first.close({ code: 'transport', message: 'lost' })
    await until(() => world.agents.presence(team(world), 'studio-7') === 'absent')
    await dialAs(world, rawKey, helloOf(other))
  })

  test('the same id in another team is another agent', async () => {
    const world = await agentsWorld()
    const { id: otherTeam } = await world.identity.createTeam(world.owner.userId, 'other')
    const stranger = await world.identity.createCredential(
      { ...world.owner, teamId: otherTeam },
      { kind: 'agent', displayName: 'x' },
    )
    const { rawKey } = await world.newKey()
    await dialAs(world, rawKey, helloOf(temporaryMachineKey()))
    await dialAs(world, stranger.rawKey, helloOf(temporaryMachineKey()))
    await until(() => world.agents.counts.linked === 2)
    expect(world.agents.list(otherTeam).length).toBe(1)
  })

  test('a signature for another link, another id or by another key is refused', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const machine = temporaryMachineKey()
    const impostors: ((challenge: string) => Greeting)[] = [
      () => helloOf(machine)('the challenge of another link'),
      (challenge) => withFields(helloOf(machine, 'victim')(challenge), { agent_id: 'studio-7' }),
      (challenge) =>
        withFields(helloOf(machine)(challenge), {
          machine: {
            ...machine.prove(challenge, 'studio-7'),
            public_key: temporaryMachineKey().prove('', '').public_key,
          },
        }),
      (challenge) =>
        withFields(helloOf(machine)(challenge), { machine: { public_key: '_'.repeat(43), signature: 'A'.repeat(86) } }),
    ]
    for (const hello of impostors) {
      expect(await refusalOf(dialAs(world, rawKey, hello))).toMatchObject({ code: 'refused' })
    }
    expect(world.agents.list(team(world))).toEqual([])
  })

  test('links of one agent that race leave exactly one, and it is listed', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const machine = temporaryMachineKey()
    const links = await Promise.all(Array.from({ length: 8 }, () => dialAs(world, rawKey, helloOf(machine))))
    const open = new Set(links)
    for (const link of links) void link.closed.then(() => open.delete(link))
    await until(() => open.size === 1 && world.agents.counts.linked === 1)
    expect(world.agents.list(team(world)).length).toBe(1)
  })
})

describe('what is said', () => {
  const garbage: readonly [field: string, value: unknown][] = [
    ['agent_id', '../../etc/passwd'],
    ['labels', Array.from({ length: 65 }, (_, index) => `l${index}`)],
    ['system_stats', { ...STATS, gpu_devices: 'many' }],
    ['gpu_capacity', -1],
    ['machine', {}],
  ]
  test.each(garbage)('a hello with a wrong %s is refused, naming it', async (field, value) => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const hello = (challenge: string): Greeting =>
      withFields(helloOf(temporaryMachineKey())(challenge), { [field]: value })
    expect(await refusalOf(dialAs(world, rawKey, hello))).toMatchObject({
      code: 'refused',
      message: expect.stringContaining(field) as unknown,
    })
  })

  test('heartbeats update what is listed, and are answered', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const link = await dialAs(world, rawKey, helloOf(temporaryMachineKey()))
    const control = openControl(link)
    const gpu = { device_name: 'NVIDIA L4', device_type: 'cuda', vram_total: 24, vram_free: 7 }
    control.send({ type: 'heartbeat', sequence: 5, system_stats: { ...STATS, gpu_devices: [gpu] } })
    control.send({ type: 'weather', sunny: true })
    await until(() => control.answers.length === 1)
    expect(control.answers).toEqual(['{"type":"heartbeat_ok","sequence":5}'])
    expect(world.agents.get(team(world), 'studio-7')?.system_stats?.gpu_devices).toEqual([gpu])
  })

  const rude: readonly [what: string, lines: readonly unknown[], message: RegExp][] = [
    ['garbage', [{ type: 'heartbeat', sequence: 'one' }], /sequence must be/],
    ['a line without end', ['x'.repeat(70_000)], /65536 bytes at most/],
    ['a flood', Array.from({ length: 70 }, () => ({ type: 'weather' })), /more than 60 control lines in 10 s/],
  ]
  test.each(rude)('%s on the control stream ends the link and says why', async (_what, lines, message) => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const link = await dialAs(world, rawKey, helloOf(temporaryMachineKey()))
    const control = openControl(link)
    for (const line of lines) control.send(line)
    expect(await link.closed).toMatchObject({
      code: 'protocol_fault',
      message: expect.stringMatching(message) as unknown,
    })
  })

  test('a second control stream and more echo streams than allowed are refused, tcp is not served', async () => {
    const world = await agentsWorld({ limits: { echoStreams: 1 } })
    const { rawKey } = await world.newKey()
    const link = await dialAs(world, rawKey, helloOf(temporaryMachineKey()))
    const accepted = (kind: 'control' | 'echo'): Promise<void> =>
      link.open({ target: { kind }, priority: 'control' }, IGNORED).accepted
    await accepted('control')
    await expect(accepted('control')).rejects.toMatchObject({ code: 'refused' })
    await accepted('echo')
    await expect(accepted('echo')).rejects.toMatchObject({ code: 'refused' })
    const tcp = link.open({ target: { kind: 'tcp', port: 22 }, priority: 'bulk' }, IGNORED)
    await expect(tcp.accepted).rejects.toMatchObject({ code: 'unsupported' })
  })
})

describe('a link that only measures', () => {
  const probe = (): Greeting => ({ software: 'doctor', fields: { role: 'probe' } })

  test('gets its bytes echoed, is never listed, and evicts nobody', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const agent = await dialAs(world, rawKey, helloOf(temporaryMachineKey()))
    const link = await dialAs(world, rawKey, probe)
    const back: Buffer[] = []
    const ended = Promise.withResolvers<void>()
    const echo = link.open(
      { target: { kind: 'echo' }, priority: 'bulk' },
      { ...IGNORED, onData: (chunk) => void back.push(Buffer.from(chunk.bytes)), onEnd: ended.resolve },
    )
    echo.write(Buffer.alloc(3_000_000, 'cyberun'))
    echo.end()
    await ended.promise
    expect(Buffer.concat(back).equals(Buffer.alloc(3_000_000, 'cyberun'))).toBe(true)
    const control = link.open({ target: { kind: 'control' }, priority: 'control' }, IGNORED)
    await expect(control.accepted).rejects.toMatchObject({ code: 'unsupported' })
    expect(world.agents.list(team(world)).length).toBe(1)
    expect(agent.stats.bytesIn).toBeGreaterThan(0)
    expect(world.agents.counts.linked).toBe(1)
  })

  test('is not let in beside too many others, until one of them is over', async () => {
    const world = await agentsWorld({ limits: { probes: 1 } })
    const { rawKey } = await world.newKey()
    const link = await dialAs(world, rawKey, probe)
    expect((await refusalOf(dialAs(world, rawKey, probe))).message).toMatch(/too many links that only measure/)
    link.close({ code: 'done', message: 'measured' })
    await expect.poll(() => dialAs(world, rawKey, probe).then(() => 'let in')).toBe('let in')
  })

  test('is over after its time', async () => {
    const world = await agentsWorld({ limits: { probes: 1, probeMs: 100 } })
    const { rawKey } = await world.newKey()
    const link = await dialAs(world, rawKey, probe)
    expect(await link.closed).toMatchObject({ code: 'done' })
    await dialAs(world, rawKey, probe)
  })
})

describe('the end of a key', () => {
  test('revoking it closes its links and no others, at once', async () => {
    const world = await agentsWorld()
    const [mine, other] = await Promise.all([world.newKey(), world.newKey()])
    const link = await dialAs(world, mine.rawKey, helloOf(temporaryMachineKey(), 'a'))
    await dialAs(world, other.rawKey, helloOf(temporaryMachineKey(), 'b'))
    await until(() => world.agents.counts.linked === 2)
    await world.identity.revokeCredential(world.owner, mine.id)
    expect(await link.closed).toMatchObject({
      code: 'revoked',
      message: expect.stringMatching(/make a new one/) as unknown,
    })
    await until(() => world.agents.list(team(world)).length === 1)
    expect(world.agents.linkOf(team(world), 'b')).toBeDefined()
  })

  test('a revocation whose message was lost is found by the sweep', async () => {
    const world = await agentsWorld({ limits: { credentialSweepMs: 20 } })
    const { rawKey, id } = await world.newKey()
    const link = await dialAs(world, rawKey, helloOf(temporaryMachineKey()))
    await revokeCredential(world.store, id, Date.now())
    expect(await link.closed).toMatchObject({ code: 'revoked' })
  })

  test('deleting the team closes its links', async () => {
    const world = await agentsWorld()
    const { id: otherTeam } = await world.identity.createTeam(world.owner.userId, 'other')
    const actor = { ...world.owner, teamId: otherTeam }
    const { rawKey } = await world.identity.createCredential(actor, { kind: 'agent', displayName: 'x' })
    const link = await dialAs(world, rawKey, helloOf(temporaryMachineKey()))
    await until(() => world.agents.counts.linked === 1)
    await world.identity.deleteTeam(actor)
    expect(await link.closed).toMatchObject({ code: 'revoked' })
  })
})

describe('stopping', () => {
  test('lets open streams finish, takes nobody, and tells who is left when to come back', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const idle = await dialAs(world, rawKey, helloOf(temporaryMachineKey(), 'idle'))
    const busy = await dialAs(world, rawKey, helloOf(temporaryMachineKey(), 'busy'), (stream) => {
      stream.accept()
      return IGNORED
    })
    await until(() => world.agents.counts.linked === 2)
    const path = createRouting(world.agents).pathTo(team(world), 'busy')
    const stream = await path?.open(
      { target: { kind: 'tcp', port: 80 }, priority: 'bulk' },
      IGNORED,
      new AbortController().signal,
    )
    await stream?.accepted

    const deadline = new AbortController()
    const stopped = world.agents.stop(deadline.signal)
    expect((await idle.closed).code).toBe('going_away')
    expect((await busy.goingAway).code).toBe('going_away')
    expect(await failureOf(dialAs(world, rawKey, helloOf(temporaryMachineKey(), 'late')))).toMatchObject({
      kind: 'http',
      status: 503,
      retryAfterMs: expect.any(Number) as unknown,
    })
    expect(stream?.queuedBytes).toBe(0)
    deadline.abort()
    expect(await busy.closed).toMatchObject({ code: 'going_away', retryAfterMs: 1_000 })
    await stopped
    expect(world.agents.counts).toMatchObject({ linked: 0, between: 0 })
  })
})

const IGNORED = { onData() {}, onEnd() {}, onReset() {}, onDrain() {} }

function withFields(hello: Greeting, fields: Partial<Record<keyof AgentHello, unknown>>): Greeting {
  return { ...hello, fields: { ...hello.fields, ...fields } }
}

function openControl(link: Link): { send(line: unknown): void; answers: string[] } {
  const answers: string[] = []
  const stream = link.open(
    { target: { kind: 'control' }, priority: 'control' },
    lineEvents({ onLine: (line) => answers.push(line), onOverlong() {}, onOver() {} }, 65_536),
  )
  stream.accepted.catch((error: unknown) => {
    if (!(error instanceof StreamResetError) && !(error instanceof LinkClosedError)) throw error
  })
  return {
    answers,
    send(line) {
      stream.write(typeof line === 'string' ? Buffer.from(line) : encodeLine(line))
    },
  }
}

/** What a bare upgrade request without a link's hello is answered with. */
function upgradeStatus(world: AgentsWorld, headers: Record<string, string>): Promise<{ status: number; code: string }> {
  return new Promise((resolve, reject) => {
    const asking = request({
      port: world.port,
      path: '/agent',
      headers: {
        ...headers,
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
        'sec-websocket-protocol': 'cyberun.v1',
      },
    })
    asking.on('response', (response) => {
      response.setEncoding('utf8')
      let body = ''
      response.on('data', (chunk: string) => {
        body += chunk
      })
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, code: (JSON.parse(body) as { error_code: string }).error_code }),
      )
    })
    asking.on('upgrade', () => reject(new Error('it was accepted')))
    asking.on('error', reject)
    asking.end()
  })
}
