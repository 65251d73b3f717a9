import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, Socket } from 'node:net'
import {
  acceptLink,
  dialAndRelay,
  dialLink,
  type Greeting,
  type Link,
  type LinkStream,
  type StreamEvents,
} from '@cyberun/link'

/** A server of nothing but links, whose streams echo or dial: the least that can be at the other end of a broken network. */
export interface LinkGateway extends AsyncDisposable {
  readonly port: number
  readonly links: ReadonlySet<Link>
}

const GREETING: Greeting = { software: 'faults', fields: {} }

export async function startLinkGateway(): Promise<LinkGateway> {
  const links = new Set<Link>()
  const server = createServer()
  server.on('upgrade', (request, socket, head) => {
    if (!(socket instanceof Socket)) throw new Error('this server speaks plain TCP')
    const welcome = async () => GREETING
    acceptLink({ request, socket, head, challenge: 'challenge', welcome, onStream: serve }).then(
      (link) => {
        links.add(link)
        void link.closed.then(() => links.delete(link))
      },
      () => {}, // The dialling end is told; what became of it is what the tests look at.
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    links,
    async [Symbol.asyncDispose]() {
      for (const link of links) link.close({ code: 'done', message: 'the test is over' })
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

/** Dials a link to `port`. Rejects with `DialError`. */
export function dialGateway(port: number): Promise<Link> {
  return dialLink({
    url: new URL(`ws://127.0.0.1:${port}/agent`),
    headers: {},
    hello: () => GREETING,
    onStream: (stream) => {
      stream.reset('refused')
      return { onData() {}, onEnd() {}, onReset() {}, onDrain() {} }
    },
  })
}

function serve(stream: LinkStream): StreamEvents | undefined {
  const { target } = stream.init
  if (target.kind !== 'tcp') return echo(stream)
  void dialAndRelay(stream, { hosts: ['127.0.0.1'], port: target.port, timeoutMs: 5_000 })
  return undefined
}

function echo(stream: LinkStream): StreamEvents {
  stream.accept()
  return {
    onData(chunk) {
      stream.pass(chunk)
    },
    onEnd: () => stream.end(),
    onReset() {},
    onDrain() {},
  }
}

/** How an exchange ended: everything came back, or the stream was reset. */
export type Exchange = { kind: 'complete'; bytes: Buffer } | { kind: 'reset'; bytes: Buffer; code: string }

/** Sends `bytes` over a new stream, reads what comes back. Never rejects on what happens to the stream. */
export function exchange(link: Link, bytes: Buffer): Promise<Exchange> {
  return new Promise((resolve) => {
    const got: Buffer[] = []
    const stream = link.open(
      { target: { kind: 'echo' }, priority: 'interactive' },
      {
        onData: (chunk) => void got.push(Buffer.from(chunk.bytes)),
        onEnd: () => resolve({ kind: 'complete', bytes: Buffer.concat(got) }),
        onReset: (code) => resolve({ kind: 'reset', bytes: Buffer.concat(got), code }),
        onDrain() {},
      },
    )
    stream.accepted.catch(() => {}) // `onReset` tells the same.
    stream.write(bytes)
    stream.end()
  })
}
