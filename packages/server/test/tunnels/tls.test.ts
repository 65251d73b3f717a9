import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import { findProgram, lacksPrograms } from '@cyberun/testkit'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { type Bed, startBed } from './bed.ts'

describe.skipIf(lacksPrograms('openssl'))('TLS from files', () => {
  let directory: string
  let bed: Bed
  const service = createServer((incoming, response) => response.end(incoming.headers['x-forwarded-proto']))

  /** Writes `<name>.crt` and `<name>.key` for a certificate of that name. */
  function makeCertificate(name: string): void {
    const key = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
    const files = ['-keyout', join(directory, `${name}.key`), '-out', join(directory, `${name}.crt`)]
    execFileSync(findProgram('openssl') ?? 'openssl', ['req', ...key, ...files, '-subj', `/CN=${name}`], {
      stdio: 'pipe',
    })
  }

  const replace = (from: string): void => {
    for (const kind of ['key', 'crt']) renameSync(join(directory, `${from}.${kind}`), join(directory, `live.${kind}`))
  }

  async function servedName(): Promise<string> {
    const socket: TLSSocket = connect({ host: '127.0.0.1', port: bed.edge.port, rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    const { subject } = socket.getPeerCertificate()
    socket.destroy()
    return String(subject.CN)
  }

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'cyberun-tls-'))
    for (const name of ['first', 'second']) makeCertificate(name)
    replace('first')
    const upgrades = new WebSocketServer({ server: service })
    upgrades.on('connection', (socket) => socket.on('message', (data) => socket.send(data)).on('error', () => {}))
    service.listen(0, '127.0.0.1')
    await once(service, 'listening')
    const tls = { certFile: join(directory, 'live.crt'), keyFile: join(directory, 'live.key') }
    bed = await startBed({ tls })
  })
  afterAll(async () => {
    await bed[Symbol.asyncDispose]()
    service.closeAllConnections()
    service.close()
    rmSync(directory, { recursive: true, force: true })
  })

  test('requests and WebSockets pass, and the cookie is held to this very host', async () => {
    const tunnel = bed.open((service.address() as AddressInfo).port)
    const path = `/tunnel/${tunnel.facts.token}/`
    const ask = async (headers: Record<string, string>) => {
      const outgoing = request({ host: '127.0.0.1', port: bed.edge.port, path, headers, rejectUnauthorized: false })
      outgoing.end()
      const [incoming] = await once(outgoing, 'response')
      let body = ''
      for await (const chunk of incoming) body += chunk
      return { status: incoming.statusCode, headers: incoming.headers, body }
    }
    expect(await ask({})).toMatchObject({ status: 200, body: 'https' })
    const swapped = await ask({ Host: `${tunnel.facts.label}.localhost:${bed.edge.port}` })
    expect(swapped.headers['set-cookie']).toEqual([
      expect.stringMatching(/^__Host-cyberun-tunnel=[\w-]+; Path=\/; HttpOnly; SameSite=Lax; Secure$/),
    ])
    const client = new WebSocket(`wss://127.0.0.1:${bed.edge.port}${path}`, { rejectUnauthorized: false })
    await once(client, 'open')
    client.send('over TLS')
    expect(String((await once(client, 'message'))[0])).toBe('over TLS')
    client.close()
    await once(client, 'close')
  })

  test('new files are served to new connections; files that do not fit change nothing', async () => {
    expect(await servedName()).toBe('first')
    replace('second')
    await expect.poll(servedName, { timeout: 10_000 }).toBe('second')
    writeFileSync(join(directory, 'live.crt'), 'not a certificate')
    makeCertificate('third')
    renameSync(join(directory, 'third.key'), join(directory, 'live.key'))
    expect(await servedName()).toBe('second')
    renameSync(join(directory, 'third.crt'), join(directory, 'live.crt'))
    await expect.poll(servedName, { timeout: 10_000 }).toBe('third')
  })

  test('files that cannot be used are named at the start', async () => {
    const certFile = join(directory, 'missing.crt')
    await expect(startBed({ tls: { certFile, keyFile: certFile } })).rejects.toThrow(/missing\.crt/)
  })
})
