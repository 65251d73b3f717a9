import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'

/** What stands behind the tunnels, and who listens elsewhere. */

export interface Seen {
  method: string
  url: string
  headers: IncomingHttpHeaders
}

export interface Service {
  readonly server: Server
  readonly port: number
  /** Every request so far, oldest first. */
  readonly seen: Seen[]
  stop(): void
}

export interface TlsPair {
  cert: string
  key: string
}

async function serve(listener: RequestListener, tls?: TlsPair): Promise<Service> {
  const seen: Seen[] = []
  const record: RequestListener = (request, response) => {
    seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers })
    request.resume()
    listener(request, response)
  }
  const server = tls === undefined ? createServer(record) : createTlsServer(tls, record)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const stop = () => {
    server.close()
    server.closeAllConnections()
  }
  return { server, port, seen, stop }
}

/** The path of `Hostile` that answers whatever its caller wants: the attacker wrote the service, too. */
export function say(answer: { status?: number; fields?: Record<string, string | string[]>; body?: string }): string {
  return `say?${new URLSearchParams({ answer: JSON.stringify(answer) })}`
}

/** The service behind tunnel A: the attacker's. */
export function startHostile(): Promise<Service> {
  return serve((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://a')
    if (pathname !== '/say') {
      response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>A</title><p>Welcome to A</p>')
      return
    }
    const { status = 200, fields = {}, body = '' } = JSON.parse(searchParams.get('answer') ?? '{}')
    response.writeHead(status, { 'Content-Type': 'text/html', 'Cache-Control': 'no-store', ...fields }).end(body)
  })
}

/** Another site, which keeps what browsers send it, and lets every script read that it did. */
export function startThirdParty(tls?: TlsPair): Promise<Service> {
  return serve((_, response) => {
    response.writeHead(200, { 'Access-Control-Allow-Origin': '*', 'Content-Type': 'text/html' }).end('third party')
  }, tls)
}

/** What only somebody who is signed in to B may know. */
export const SECRETS = {
  session: 'session-of-the-victim-77fa',
  theme: 'theme-of-the-victim-1c09',
  text: 'secret-of-the-victim-b4d1',
} as const

/** An application that keeps its state wherever browsers let it, and trusts its own origin as everyone does. */
const VICTIM_PAGE = (isSignedIn: boolean) => `<!doctype html><title>B</title>
<p id="who">${isSignedIn ? SECRETS.text : 'nobody is signed in'}</p><button>Delete everything</button>
<script>
  const secret = document.getElementById('who').textContent
  const attempt = async (keep) => { try { await keep() } catch { /* A sandbox keeps nothing. */ } }
  addEventListener('message', (event) => {
    if (event.origin === location.origin && event.origin !== 'null') event.source.postMessage(secret, event.origin)
  })
  window.kept = Promise.all([
    attempt(() => { localStorage.setItem('secret', secret) }),
    attempt(() => { const all = new BroadcastChannel('app'); all.onmessage = ({ data }) => { if (data === 'tell') all.postMessage(secret) } }),
    attempt(async () => (await caches.open('app')).put('/secret', new Response(secret))),
    attempt(() => { const shared = new SharedWorker('shared.js', 'app'); shared.port.postMessage(secret) }),
    attempt(() => void navigator.locks.request(secret, () => new Promise(() => {}))),
    attempt(() => new Promise((done, failed) => {
      const open = indexedDB.open('app')
      open.onerror = failed
      open.onupgradeneeded = () => open.result.createObjectStore('kept')
      open.onsuccess = () => {
        const write = open.result.transaction('kept', 'readwrite')
        write.objectStore('kept').put(secret, 'secret')
        write.oncomplete = () => { open.result.close(); done() }
      }
    })),
    attempt(() => fetch('cached')),
  ])
</script>`

const SHARED_WORKER = `let kept
onconnect = ({ ports: [port] }) => {
  port.onmessage = ({ data }) => { if (data === 'tell') port.postMessage(kept); else kept = data }
}`

/** The service behind tunnel B. What changed it is in `changes`: with its session, or without. */
export interface Victim extends Service {
  readonly changes: { signedIn: boolean }[]
}

export async function startVictim(): Promise<Victim> {
  const changes: { signedIn: boolean }[] = []
  const service = await serve((request, response) => {
    const signedIn = isSignedIn(request.headers)
    const answer = (type: string, body: string, fields = {}) =>
      response.writeHead(200, { 'Content-Type': type, 'Cache-Control': 'no-store', ...fields }).end(body)
    switch (new URL(request.url ?? '/', 'http://b').pathname) {
      case '/':
        return answer('text/html', VICTIM_PAGE(signedIn))
      case '/login':
        return response
          .writeHead(302, {
            Location: './',
            'Set-Cookie': [`session=${SECRETS.session}; Path=/; HttpOnly`, `theme=${SECRETS.theme}; Path=/`],
          })
          .end()
      case '/change':
        if (request.method === 'POST') changes.push({ signedIn })
        return answer('text/plain', 'changed')
      case '/data.js':
        return answer('text/javascript', `window.loot = '${signedIn ? SECRETS.text : ''}'`)
      case '/cached':
        return answer('text/plain', SECRETS.text, { 'Cache-Control': 'private, max-age=3600' })
      case '/shared.js':
        return answer('text/javascript', SHARED_WORKER)
      default:
        return signedIn ? answer('text/plain', SECRETS.text) : response.writeHead(401).end()
    }
  })
  const sockets = new WebSocketServer({ server: service.server, path: '/socket' })
  sockets.on('connection', (socket: WebSocket, request) => {
    socket.send(isSignedIn(request.headers) ? SECRETS.text : 'nobody')
  })
  return { ...service, changes }
}

function isSignedIn({ cookie = '' }: IncomingHttpHeaders): boolean {
  return cookie.split('; ').includes(`session=${SECRETS.session}`)
}
