import { once } from 'node:events'
import { createServer, type IncomingMessage, request as requestTo } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { WebSocketServer } from 'ws'

/**
 * What many a home-made gateway is: one origin, an API that a cookie opens, and each tunnel below a path of it, every
 * byte passed on. Each attack has to succeed against it, or it would prove nothing where it fails.
 */
export interface Naive {
  readonly origin: string
  /** Calls of the API that changed something in the name of its user. */
  readonly apiChanges: string[]
  stop(): void
}

/** Cookie and token of the API's user; the page that one signs in with keeps the token. */
export const API_SECRET = 'token-of-the-api-5e21'

const API_PAGE = `<!doctype html><title>API</title><p>${API_SECRET}</p><button>Confirm</button>
<script>localStorage.setItem('api-token', '${API_SECRET}')</script>`

export async function startNaive(tunnels: Readonly<Record<string, number>>): Promise<Naive> {
  const apiChanges: string[] = []
  const server = createServer((request, response) => {
    const to = targetOf(request, tunnels)
    if (to) {
      const { method, headers } = request
      const onward = requestTo({ host: '127.0.0.1', ...to, method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      })
      onward.on('error', () => response.destroy())
      request.pipe(onward)
    } else if (request.url === '/login') {
      response.writeHead(200, { 'Set-Cookie': `api=${API_SECRET}; Path=/; HttpOnly`, 'Content-Type': 'text/html' })
      response.end(API_PAGE)
    } else if (!isUser(request)) {
      response.writeHead(401).end()
    } else if (request.method === 'GET') {
      const isPage = request.headers.accept?.includes('text/html')
      response.writeHead(200, { 'Content-Type': isPage ? 'text/html' : 'application/json' })
      response.end(isPage ? API_PAGE : JSON.stringify({ secret: API_SECRET }))
    } else {
      apiChanges.push(request.url ?? '')
      request.resume()
      response.writeHead(200).end()
    }
  })
  const terminal = new WebSocketServer({ noServer: true })
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy())
    const to = targetOf(request, tunnels)
    if (to) {
      const onward = connect(to.port, '127.0.0.1')
      onward.on('error', () => socket.destroy())
      const fields = request.rawHeaders.map((text, i) => (i % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join('')
      onward.write(`GET ${to.path} HTTP/1.1\r\n${fields}\r\n`)
      onward.write(head)
      socket.pipe(onward).pipe(socket)
    } else if (isUser(request)) {
      terminal.handleUpgrade(request, socket, head, (shell) => shell.send('$ '))
    } else {
      socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n')
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stop = () => {
    server.close()
    server.closeAllConnections()
  }
  return { origin: `http://localhost:${(server.address() as AddressInfo).port}`, apiChanges, stop }
}

function targetOf({ url = '/' }: IncomingMessage, tunnels: Readonly<Record<string, number>>) {
  const [, name = '', path = ''] = /^\/tunnel\/(\w+)(\/.*)$/.exec(url) ?? []
  const port = tunnels[name]
  return port === undefined ? undefined : { port, path }
}

function isUser({ headers }: IncomingMessage): boolean {
  return headers.cookie?.includes(`api=${API_SECRET}`) ?? false
}
