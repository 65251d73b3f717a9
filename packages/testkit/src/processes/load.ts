import { answerParent } from '../child.ts'
import { BULK_BUFFER_BYTES, Connection, type Errand, type Route, SHORT_HEADER_BYTES } from '../connection.ts'

/** The clients, in their own process: bulk both ways, echo, readers that stopped, connections that only stay open. */
export interface LoadVerbs {
  /** Opens `count` connections that download or upload as fast as they can, or that stop reading at once. */
  open(order: { route: Route; count: number; errand: Errand | 'stalled_download' }): Promise<void>
  /** Opens `count` connections that echo one byte each and then stay. */
  hold(order: { route: Route; count: number }): Promise<void>
  /** Closes everything `open` and `hold` made. */
  close(nothing: null): void
  /** How many of those are still connected. */
  connected(nothing: null): number
  /** Bytes downloaded so far by those that read, and when that was in milliseconds. */
  received(nothing: null): { bytes: number; atMs: number }
  /** Round trips of one byte over one connection, one after the other, in milliseconds. */
  echo(order: { route: Route; times: number }): Promise<number[]>
}

const SMALL_BUFFER_BYTES = 1024
const CHUNK = Buffer.alloc(256 * 1024, 'cyberun ')

let receivedBytes = 0
const connections = new Set<Connection>()

/** On the relay one byte comes back as a message of one byte. */
const echoBytes = (route: Route) => (route.kind === 'relay' ? SHORT_HEADER_BYTES + 1 : 1)

async function openBulk(route: Route, errand: Errand | 'stalled_download'): Promise<void> {
  const connection = await Connection.open(route, {
    errand: errand === 'stalled_download' ? 'download' : errand,
    bufferBytes: errand === 'stalled_download' ? SMALL_BUFFER_BYTES : BULK_BUFFER_BYTES,
    onBytes(count) {
      if (errand === 'stalled_download') return false
      receivedBytes += count
      return true
    },
  })
  connections.add(connection)
  if (errand === 'upload') upload(connection)
}

function upload(connection: Connection): void {
  const message = connection.message(CHUNK)
  const pour = () => {
    while (!connection.socket.destroyed && connection.socket.write(message));
  }
  connection.socket.on('drain', pour)
  pour()
}

/** Calls `onEcho` after each echo of one byte; false ends it. */
async function openEcho(route: Route, onEcho: (connection: Connection) => boolean): Promise<Connection> {
  let due = echoBytes(route)
  const connection: Connection = await Connection.open(route, {
    errand: 'echo',
    bufferBytes: SMALL_BUFFER_BYTES,
    onBytes(count) {
      due -= count
      if (due > 0) return true
      due = echoBytes(route)
      if (onEcho(connection)) connection.socket.write(connection.message(Buffer.from('e')))
      return true
    },
  })
  connection.socket.write(connection.message(Buffer.from('e')))
  return connection
}

async function echo(route: Route, times: number): Promise<number[]> {
  const took: number[] = []
  const { promise, resolve } = Promise.withResolvers<void>()
  let sentAt = performance.now()
  const connection = await openEcho(route, () => {
    const now = performance.now()
    took.push(now - sentAt)
    sentAt = now
    if (took.length > times) resolve()
    return took.length <= times
  })
  await promise
  connection.socket.destroy()
  return took.slice(1) // The first one opened the connection as well.
}

async function hold(route: Route): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  connections.add(
    await openEcho(route, () => {
      resolve()
      return false
    }),
  )
  await promise
}

answerParent<LoadVerbs>({
  async open({ route, count, errand }) {
    await Promise.all(Array.from({ length: count }, () => openBulk(route, errand)))
  },
  async hold({ route, count }) {
    for (let i = 0; i < count; i++) await hold(route)
  },
  close() {
    for (const { socket } of connections) socket.destroy()
    connections.clear()
  },
  connected: () => [...connections].filter(({ socket }) => !socket.destroyed).length,
  received: () => ({ bytes: receivedBytes, atMs: performance.now() }),
  echo: ({ route, times }) => echo(route, times),
})
