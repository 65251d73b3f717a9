import { createServer, type Server } from 'node:http'
import type { Socket, Server as TcpServer } from 'node:net'
import { acceptLink, type DialLinkOptions, dialLink, type Greeting, type Link } from '@cyberun/link'
import type { CloseReason, Hello, StreamHandler } from '@cyberun/protocol'

export interface PairOptions {
  /** What the accepting end does with streams; refuses them when absent. */
  onServerStream?: StreamHandler
  onClientStream?: StreamHandler
  welcome?: (hello: Hello) => Promise<Greeting | CloseReason>
  dial?: Partial<DialLinkOptions>
}

export interface Pair {
  client: Link
  server: Link
  port: number
  [Symbol.asyncDispose](): Promise<void>
}

export const GREETING: Greeting = { software: 'test/1', fields: {} }

export const refuse: StreamHandler = (stream) => {
  stream.reset('refused')
  return undefined
}

/** Two links that are one, over a real socket; both are closed at the end of the scope. */
export async function connectPair(options: PairOptions = {}): Promise<Pair> {
  const accepted = Promise.withResolvers<Link>()
  const http = createServer()
  http.on('upgrade', (request, socket, head) => {
    acceptLink({
      request,
      socket: socket as Socket,
      head,
      challenge: 'Y2hhbGxlbmdl',
      welcome: options.welcome ?? (() => Promise.resolve(GREETING)),
      onStream: options.onServerStream ?? refuse,
    }).then(accepted.resolve, accepted.reject)
  })
  const port = await listen(http)
  const client = await dialLink({
    url: new URL(`ws://127.0.0.1:${port}/agent`),
    headers: {},
    hello: () => GREETING,
    onStream: options.onClientStream ?? refuse,
    ...options.dial,
  })
  const server = await accepted.promise
  return {
    client,
    server,
    port,
    async [Symbol.asyncDispose]() {
      client.close({ code: 'done', message: 'the test is over' })
      await Promise.all([client.closed, server.closed])
      await new Promise((resolve) => http.close(resolve))
    },
  }
}

export function listen(server: Server | TcpServer): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve(typeof address === 'object' && address ? address.port : 0)
    })
  })
}
