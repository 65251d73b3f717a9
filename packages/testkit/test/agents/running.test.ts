import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { temporaryMachineKey } from '@cyberun/agent'
import type { StreamResetError } from '@cyberun/protocol'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createRouting } from '../../../server/src/routing/routing.ts'
import { startFaultRelay } from '../../src/fault-relay.ts'
import { freePort } from '../../src/free-port.ts'
import { until } from '../../src/until.ts'
import { type AgentsWorld, agentsWorld, dialAs, helloOf, startAgent, temporaryDirectory } from './agents-world.ts'

const NEVER = new AbortController().signal

/** A TCP service that sends back what it gets. Closed with the test. */
async function echoService(host: string): Promise<{ port: number; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.pipe(socket)
  })
  // Nobody else has this port at another address of the loopback.
  server.listen(await freePort(), host)
  await once(server, 'listening')
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, sockets }
}

/** Opens a stream to a port behind the agent as tunnels do, and collects what comes back. */
async function openTo(world: AgentsWorld, port: number, agentId = 'studio-7') {
  const path = createRouting(world.agents).pathTo(world.owner.teamId, agentId)
  if (!path) throw new Error(`there is no path to ${agentId}`)
  const got: Buffer[] = []
  let resetBy: StreamResetError['code'] | undefined
  const stream = await path.open(
    { target: { kind: 'tcp', port }, priority: 'interactive' },
    {
      onData: ({ bytes }) => void got.push(Buffer.from(bytes)),
      onEnd() {},
      onReset(code) {
        resetBy = code
      },
      onDrain() {},
    },
    NEVER,
  )
  return {
    stream,
    text: () => Buffer.concat(got).toString(),
    resetBy: () => resetBy,
    /** Sends a word and waits until it is back. */
    async says(word: string) {
      const before = Buffer.concat(got).length
      stream.write(Buffer.from(word))
      await until(() => Buffer.concat(got).length === before + word.length)
      return Buffer.concat(got).toString().slice(before)
    },
  }
}

const presence = (world: AgentsWorld, agentId = 'studio-7') => world.agents.presence(world.owner.teamId, agentId)
const linked = (world: AgentsWorld) => until(() => presence(world) === 'linked')

describe('a running agent', () => {
  test('is listed with what it found out, and leaves the list when it is stopped', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const dir = await temporaryDirectory()
    const nvidiaSmi = join(dir, 'nvidia-smi')
    await writeFile(nvidiaSmi, '#!/bin/sh\necho "NVIDIA GeForce RTX 4090, 24564, 23012"\n')
    await chmod(nvidiaSmi, 0o755)
    const agent = await startAgent(world, { agent_key: rawKey, agent_labels: ['rack-3'] }, { nvidiaSmi })
    await linked(world)
    expect(world.agents.list(world.owner.teamId)).toMatchObject([
      {
        agent_id: 'studio-7',
        agent_status: 'idle',
        agent_labels: ['gpu', 'nvidia-geforce-rtx-4090', 'rack-3'],
        agent_version: expect.stringMatching(/^\d+\.\d+\.\d+$/) as unknown,
        platform_arch: expect.stringMatching(/^\w+\/\w+$/) as unknown,
        gpu_capacity: 1,
        system_stats: { os_type: process.platform, gpu_devices: [{ device_name: 'NVIDIA GeForce RTX 4090' }] },
      },
    ])
    await until(() => agent.states.at(-1)?.kind === 'linked')
    expect(await agent.stop()).toEqual({ kind: 'stopped' })
    await until(() => world.agents.list(world.owner.teamId).length === 0)
    expect(agent.states.map(({ kind }) => kind)).toEqual(['dialling', 'linked'])
    expect(agent.lines.join('')).not.toContain(rawKey)
  })

  test('dials the ports of its own loopback, on IPv4 or IPv6, and says when nothing listens', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const [v4, v6] = await Promise.all([echoService('127.0.0.1'), echoService('::1')])
    await startAgent(world, { agent_key: rawKey })
    await linked(world)
    expect(await (await openTo(world, v4.port)).says('over IPv4')).toBe('over IPv4')
    expect(await (await openTo(world, v6.port)).says('over IPv6')).toBe('over IPv6')
    const { port } = v4
    const unused = await echoService('127.0.0.1')
    expect(unused.port).not.toBe(port)
    const refused = await openTo(world, 1)
    await expect(refused.stream.accepted).rejects.toMatchObject({ code: 'target_refused' })
  })

  test('asks for each stream whether its port is allowed, also after the file has changed', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const [one, two] = await Promise.all([echoService('127.0.0.1'), echoService('127.0.0.1')])
    const file = join(await temporaryDirectory(), 'cyberun-agent.yaml')
    const allow = (port: number) =>
      writeFile(file, `gateway_url: ws://127.0.0.1\nagent_key: ${rawKey}\ntunnel_ports: [${port}]\n`)
    await allow(one.port)
    await startAgent(world, { agent_key: rawKey, tunnel_ports: [one.port] }, { file })
    await linked(world)
    const open = await openTo(world, one.port)
    expect(await open.says('hello')).toBe('hello')
    await expect((await openTo(world, two.port)).stream.accepted).rejects.toMatchObject({ code: 'port_not_allowed' })

    await allow(two.port)
    await until(() => open.resetBy() === 'port_not_allowed')
    await until(() => one.sockets.size === 0)
    expect(await (await openTo(world, two.port)).says('hello')).toBe('hello')
    await expect((await openTo(world, one.port)).stream.accepted).rejects.toMatchObject({ code: 'port_not_allowed' })
  })

  test('never dials the gateway on its own machine, which would be a loop', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    await startAgent(world, { agent_key: rawKey })
    await linked(world)
    const loop = await openTo(world, world.port)
    await expect(loop.stream.accepted).rejects.toMatchObject({ code: 'port_not_allowed' })
  })
})

describe('an agent that cannot stay', () => {
  test('stops with a clear message when its key is not known', async () => {
    const world = await agentsWorld()
    const { rawKey, id } = await world.newKey()
    await world.identity.revokeCredential(world.owner, id)
    const agent = await startAgent(world, { agent_key: rawKey })
    expect(await agent.exit).toEqual({ kind: 'bad_key', message: expect.stringMatching(/make a new one/) as unknown })
  })

  test('stops when its key is revoked while it is linked', async () => {
    const world = await agentsWorld()
    const { rawKey, id } = await world.newKey()
    const agent = await startAgent(world, { agent_key: rawKey })
    await linked(world)
    await world.identity.revokeCredential(world.owner, id)
    expect(await agent.exit).toEqual({ kind: 'revoked', message: expect.stringMatching(/was revoked/) as unknown })
    expect(world.agents.list(world.owner.teamId)).toEqual([])
  })

  test('makes way for a newer process of the same machine', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const state = await temporaryDirectory()
    const old = await startAgent(world, { agent_key: rawKey, state_dir: state })
    await until(() => old.states.at(-1)?.kind === 'linked')
    old.later(60_000)
    await startAgent(world, { agent_key: rawKey, state_dir: state })
    expect(await old.exit).toMatchObject({ kind: 'taken_over' })
    await linked(world)
  })

  test('offers its tools only once the older process of the machine has let go of the state directory', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const settings = { agent_key: rawKey, state_dir: await temporaryDirectory(), demo: true, slots: 3 }
    const toolNow = () => world.agents.list(world.owner.teamId).map((agent) => [agent.tool, agent.gpu_capacity])
    const old = await startAgent(world, settings)
    await until(() => toolNow().join() === 'demo,3')
    expect(world.agents.list(world.owner.teamId)).toMatchObject([{ agent_labels: ['demo'] }])
    await until(() => old.states.at(-1)?.kind === 'linked')
    old.later(60_000)
    const next = await startAgent(world, settings)
    expect(await old.exit).toMatchObject({ kind: 'taken_over' })
    expect(next.lines.join('')).toContain('tasks.wait')
    await until(() => toolNow().join() === 'demo,3' && next.states.filter(({ kind }) => kind === 'linked').length === 2)
  })

  test('gives up an agent id that another machine keeps', async () => {
    const world = await agentsWorld({ limits: { resumeWindowMs: 20 } })
    const { rawKey } = await world.newKey()
    await dialAs(world, rawKey, helloOf(temporaryMachineKey()))
    await linked(world)
    const agent = await startAgent(world, { agent_key: rawKey })
    await until(() => agent.lines.some((line) => line.includes('agent_id_taken')))
    agent.later(60_000)
    expect(await agent.exit).toEqual({
      kind: 'agent_id_taken',
      message: expect.stringMatching(/give this one its own agent_id/) as unknown,
    })
  })
})

describe('an agent that loses its link', () => {
  test('is back at once, as the same agent, and callers waited for it', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const service = await echoService('127.0.0.1')
    await using relay = await startFaultRelay({ port: world.port })
    const agent = await startAgent({ gatewayUrl: `ws://127.0.0.1:${relay.port}` }, { agent_key: rawKey })
    await until(() => agent.states.at(-1)?.kind === 'linked')
    agent.later(60_000)
    relay.unplug()
    await until(() => presence(world) === 'between')
    expect(world.agents.get(world.owner.teamId, 'studio-7')).toBeDefined()
    const parked = openTo(world, service.port)
    relay.heal()
    expect(await (await parked).says('still here')).toBe('still here')
  })

  test('waits for a server that is not there yet, and says what is wrong once', async () => {
    const world = await agentsWorld()
    await world.deafen()
    const { rawKey } = await world.newKey()
    const agent = await startAgent(world, { agent_key: rawKey })
    await until(() => agent.states.filter(({ kind }) => kind === 'dialling').length > 4)
    expect(agent.lines.filter((line) => line.includes('link.failed')).length).toBeLessThan(4)
    expect(agent.lines.join('')).toContain('is the server running, and is gateway_url its edge?')
    await world.listen()
    await linked(world)
  })

  test('comes back when the server asks for it', async () => {
    const clock = { now: Date.now() }
    const world = await agentsWorld({ limits: { acceptsPerSecond: 2, acceptBurst: 1 }, now: () => clock.now })
    const { rawKey } = await world.newKey()
    await dialAs(world, rawKey, helloOf(temporaryMachineKey(), 'first'))
    const agent = await startAgent(world, { agent_key: rawKey })
    await until(() => agent.states.at(-1)?.kind === 'waiting')
    clock.now += 1_000
    await linked(world)
    expect(agent.states.filter(({ kind }) => kind === 'waiting').length).toBe(1)
  })

  test('makes its next link before the old one ends, when the server says go-away', async () => {
    const world = await agentsWorld()
    const { rawKey } = await world.newKey()
    const service = await echoService('127.0.0.1')
    await startAgent(world, { agent_key: rawKey })
    await linked(world)
    const old = world.agents.linkOf(world.owner.teamId, 'studio-7')
    const open = await openTo(world, service.port)
    expect(await open.says('before')).toBe('before')

    old?.goAway('a better server is over there', 60_000)
    await until(() => world.agents.linkOf(world.owner.teamId, 'studio-7') !== old && world.agents.counts.linked === 2)
    expect(await open.says('after')).toBe('after')
    expect(await (await openTo(world, service.port)).says('new')).toBe('new')
    open.stream.end()
    expect((await old?.closed)?.code).toBe('going_away')
    expect(presence(world)).toBe('linked')
  })
})
