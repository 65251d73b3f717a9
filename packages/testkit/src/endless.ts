import { once } from 'node:events'
import { createServer, type get, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocket, WebSocketServer } from 'ws'

/** A service whose answers have no end, and visitors who take them for as long as they may. */

export interface EndlessService extends AsyncDisposable {
  readonly port: number
}

const PAGE = `<!doctype html><title>here</title><h1>the service</h1>
<form method="post" action="page"><button>send</button></form>`

/** Serves a stream of events at `/events`, a small page at `/page`, a download elsewhere, and a WebSocket that talks. */
export async function startEndless(): Promise<EndlessService> {
  const server = createServer(answer)
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', (socket) => {
    const talking = setInterval(() => socket.send('tick'), 5)
    socket.on('close', () => clearInterval(talking))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      sockets.close()
      for (const socket of sockets.clients) socket.terminate()
      server.closeAllConnections()
      server.close()
    },
  }
}

function answer({ url }: IncomingMessage, response: ServerResponse): void {
  if (url === '/page') {
    response.setHeader('Content-Type', 'text/html').end(PAGE)
    return
  }
  const isEvents = url === '/events'
  response.setHeader('Content-Type', isEvents ? 'text/event-stream' : 'application/octet-stream')
  if (!isEvents) response.setHeader('Content-Length', 1e12)
  const piece = isEvents ? 'data: tick\n\n' : Buffer.alloc(16_384)
  const writing = setInterval(() => void (response.writableNeedDrain || response.write(piece)), 5)
  response.on('close', () => clearInterval(writing))
}

/** Something that brings bytes: how many came, when the last did (milliseconds of `performance.now`), and its end. */
export interface Flow {
  seen(): number
  lastAt(): number
  ended: Promise<unknown>
  destroy(): void
}

/** Takes what a request or a WebSocket brings; a WebSocket may say something first. */
export async function flow(source: ReturnType<typeof get> | WebSocket, firstWords?: string): Promise<Flow> {
  let bytes = 0
  let last = 0
  const onBytes = (piece: { length: number }): void => {
    bytes += piece.length
    last = performance.now()
  }
  const ended = Promise.withResolvers<void>()
  if (source instanceof WebSocket) {
    await once(source, 'open')
    if (firstWords !== undefined) source.send(Buffer.from(firstWords))
    source.on('message', onBytes).on('close', ended.resolve)
  } else {
    const [response] = (await once(source, 'response')) as [IncomingMessage]
    source.on('error', () => {}) // it is cut off, as it should be
    response
      .on('data', onBytes)
      .on('error', () => {})
      .on('close', ended.resolve)
  }
  return {
    seen: () => bytes,
    lastAt: () => last,
    ended: ended.promise,
    destroy: () => (source instanceof WebSocket ? source.terminate() : source.destroy()),
  }
}
