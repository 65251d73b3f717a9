import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { request } from 'node:https'
import { type AddressInfo, connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import { createLog } from '@cyberun/link/log'
import { findProgram, lacksPrograms } from '@cyberun/testkit'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { reloadOnChange, versionOf } from '../../src/tunnels/edge/tls-files.ts'
import { type Bed, SILENT, startBed } from './bed.ts'

describe.skipIf(lacksPrograms('openssl'))('TLS from files', () => {
  let directory: string
  let bed: Bed
  const lines: string[] = []
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

  async function servedName(port = bed.edge.port): Promise<string> {
    const socket: TLSSocket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
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
    bed = await startBed({
      tls,
      log: createLog({ level: 'info', format: 'json', write: (line) => void lines.push(line) }),
    })
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
    await expect.poll(() => servedName()).toBe('second')
    lines.length = 0
    writeFileSync(join(directory, 'live.crt'), 'not a certificate')
    makeCertificate('third')
    renameSync(join(directory, 'third.key'), join(directory, 'live.key'))
    await expect.poll(() => lines.join()).toContain('edge.tls_reload_failed')
    expect(await servedName()).toBe('second')
    renameSync(join(directory, 'third.crt'), join(directory, 'live.crt'))
    await expect.poll(() => servedName()).toBe('third')
  })

  test('files that were replaced while they were read for the first time are read again', async () => {
    const files = { certFile: join(directory, 'live.crt'), keyFile: join(directory, 'live.key') }
    const version = await versionOf(files)
    makeCertificate('fourth')
    const fourth = readFileSync(join(directory, 'fourth.crt'))
    replace('fourth')
    const served: Buffer[] = []
    const stop = reloadOnChange(({ cert }) => void served.push(cert), files, version, SILENT)
    await expect.poll(() => served).toEqual([fourth])
    stop()
  })

  test('files that could not be read or served for a moment are tried again, though they stay as they are', async () => {
    const files = { certFile: join(directory, 'live.crt'), keyFile: join(directory, 'live.key') }
    let tries = 0
    const serve = () => {
      tries += 1
      if (tries === 1) throw new Error('not at this moment')
    }
    const stop = reloadOnChange(serve, files, 'another version', SILENT)
    await expect.poll(() => tries).toBe(2)
    stop()
  })

  test('a handshake that is still under way when the edge stops gets nobody in', async () => {
    await using stopped = await startBed({
      tls: { certFile: join(directory, 'live.crt'), keyFile: join(directory, 'live.key') },
    })
    const tcp = connectTcp(stopped.edge.port, '127.0.0.1')
    await once(tcp, 'connect')
    // Who comes after it has been accepted: so it was, too, and is there when the listener is closed.
    await servedName(stopped.edge.port)
    await stopped.edge.stop(AbortSignal.abort())
    const visitor = connect({ socket: tcp, rejectUnauthorized: false })
    visitor.on('error', () => {})
    visitor.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    let answer = ''
    visitor.on('data', (bytes) => {
      answer += String(bytes)
    })
    await once(visitor, 'close')
    expect(answer).toBe('')
  })

  test('files that cannot be used are named at the start', async () => {
    const certFile = join(directory, 'missing.crt')
    await expect(startBed({ tls: { certFile, keyFile: certFile } })).rejects.toThrow(/missing\.crt/)
  })
})
