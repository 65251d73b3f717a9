import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { detectProfile } from '../../src/tunnels/profiles.ts'
import { startAgentLink } from './bed.ts'

let link: Awaited<ReturnType<typeof startAgentLink>>
const open: Server[] = []
const NEVER = new AbortController().signal

beforeAll(async () => {
  link = await startAgentLink()
})
afterAll(() => link.close())
afterEach(() => {
  for (const server of open.splice(0)) server.close()
})

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  open.push(server)
  return (server.address() as AddressInfo).port
}

/** `patienceMs`: far longer than the answers of a busy machine take, where it is not what a test is about. */
async function detect(port: number, base = '', patienceMs = 60_000): Promise<string> {
  const path = link.routing.pathTo('team', 'agent')
  if (!path) throw new Error('there is always a path here')
  return detectProfile(path, port, base, NEVER, patienceMs)
}

/** A service by its answers: path to status, fields and body. What is not listed is 404. */
type Answers = Record<string, [status: number, fields: Record<string, string>, body: string]>

function serve(answers: Answers, asked: string[] = []): RequestListener {
  return (request, response) => {
    asked.push(request.url ?? '')
    const [status, fields, body] = answers[request.url ?? ''] ?? [404, {}, 'not found']
    response.writeHead(status, fields).end(body)
  }
}

const HTML = { 'Content-Type': 'text/html' }
const JSON_TYPE = { 'Content-Type': 'application/json' }
const TORNADO = { Server: 'TornadoServer/6.5.2' }
const UVICORN = { ...HTML, Server: 'uvicorn' }

const COMFYUI: Answers = {
  '/': [200, HTML, '<!DOCTYPE html><html><head><title>ComfyUI</title>'],
  '/system_stats': [200, JSON_TYPE, '{"system": {"os": "posix", "comfyui_version": "0.3.60"}, "devices": []}'],
}
const JUPYTER: Answers = {
  '/': [302, { ...TORNADO, Location: '/lab?' }, ''],
  '/api': [200, { ...TORNADO, ...JSON_TYPE }, '{"version": "2.17.0"}'],
}
const HEALTH: Answers[string] = [200, JSON_TYPE, '{"status":"alive","lastHeartbeat":1760000000000}']

describe('services that are told from others by what they answer', () => {
  test.each<[name: string, answers: Answers, profile: string]>([
    ['ComfyUI', COMFYUI, 'comfyui'],
    ['a page that only says ComfyUI', { '/': COMFYUI['/'] ?? [404, {}, ''] }, 'generic'],
    ['Jupyter', JUPYTER, 'jupyter'],
    ['Jupyter with a login', { ...JUPYTER, '/': [302, { ...TORNADO, Location: '/login?next=%2Flab' }, ''] }, 'jupyter'],
    [
      'Jupyter below a base path',
      { '/': [302, { ...TORNADO, Location: '/hub/me/lab' }, ''], '/hub/me/api': JUPYTER['/api'] ?? [404, {}, ''] },
      'jupyter',
    ],
    ['another Tornado', { '/': [200, TORNADO, 'hello'], '/api': [200, JSON_TYPE, '{"version": 3}'] }, 'generic'],
    ['Gradio', { '/': [200, UVICORN, `<html>${' '.repeat(90_000)}<script>window.gradio_config = {}`] }, 'gradio'],
    [
      'Gradio behind a page of its own',
      {
        '/': [200, UVICORN, '<title>Gradio</title>'],
        '/config': [200, JSON_TYPE, '{"version":"5.49.1","components":[]}'],
      },
      'gradio',
    ],
    ['code-server', { '/': [302, { Location: './?folder=/src' }, ''], '/healthz': HEALTH }, 'code-server'],
    ['code-server with a password', { '/': [302, { Location: './login' }, ''], '/healthz': HEALTH }, 'code-server'],
    [
      'code-server that shows a workbench',
      { '/': [200, HTML, '<meta id="vscode-workbench">'], '/healthz': HEALTH },
      'code-server',
    ],
    ['Vite', { '/': [200, HTML, '<script type="module" src="/@vite/client"></script>'] }, 'vite'],
    ['a page of somebody else', { '/': [200, HTML, '<title>Hello</title>'] }, 'generic'],
    ['nothing at its root', {}, 'generic'],
    ['a failing service', { '/': [500, {}, 'oops'] }, 'generic'],
  ])('%s', async (_name, answers, profile) => {
    const asked: string[] = []
    expect(await detect(await listen(createServer(serve(answers, asked))))).toBe(profile)
    expect(asked.length, 'no more than two questions').toBeLessThanOrEqual(2)
  })

  test('a service below its tunnel’s prefix is asked there', async () => {
    const asked: string[] = []
    const answers: Answers = {
      '/tunnel/t/': [302, { ...TORNADO, Location: '/tunnel/t/lab' }, ''],
      '/tunnel/t/api': JUPYTER['/api'] ?? [404, {}, ''],
    }
    expect(await detect(await listen(createServer(serve(answers, asked))), '/tunnel/t')).toBe('jupyter')
    expect(asked).toEqual(['/tunnel/t/', '/tunnel/t/api'])
  })
})

describe('a service that means no good holds nobody up', () => {
  const PATIENCE_MS = 300

  test.each<[name: string, says: (write: (bytes: string) => void) => void]>([
    ['says nothing', () => {}],
    ['says no HTTP', (write) => write('SSH-2.0-OpenSSH_9.2p1\r\n')],
    ['begins a head and stops', (write) => write('HTTP/1.1 200 OK\r\nServer: Torn')],
    ['sends a body without end', (write) => write(`HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(1_000)}`)],
    ['sends a head without end', (write) => write(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}`)],
    ['sends interim answers without end', (write) => write('HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(1_000))],
    ['sends more than is read', (write) => write(`HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(4_000_000)}`)],
  ])('when it %s', async (_name, says) => {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => says((bytes) => socket.write(bytes)))
    })
    const timeout = vi.spyOn(AbortSignal, 'timeout')
    onTestFinished(() => timeout.mockRestore())
    expect(await detect(await listen(server), '', PATIENCE_MS)).toBe('generic')
    // No clock is watched: what never answers would hold up this test until it fails.
    expect(timeout.mock.calls).toContainEqual([PATIENCE_MS])
  })

  test('when it answers the first question only', async () => {
    const server = createServer((request, response) => {
      if (request.url === '/') response.writeHead(200, TORNADO).end()
    })
    expect(await detect(await listen(server), '', PATIENCE_MS)).toBe('generic')
    server.closeAllConnections()
  })

  test('when it leads elsewhere', async () => {
    const asked: string[] = []
    const answers: Answers = { '/': [302, { Location: 'http://169.254.169.254/' }, ''] }
    expect(await detect(await listen(createServer(serve(answers, asked))))).toBe('generic')
    expect(asked).toEqual(['/'])
  })

  test('when nothing listens, or the agent is gone', async () => {
    const server = createTcpServer()
    const port = await listen(server)
    await new Promise((resolve) => server.close(resolve))
    expect(await detect(port)).toBe('generic')
    const gone = { open: () => Promise.reject(new Error('no link')) }
    expect(await detectProfile(gone, 1, '', NEVER)).toBe('generic')
  })
})
