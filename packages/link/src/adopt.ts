import { connect, createServer, type OnReadOpts, Socket } from 'node:net'

/**
 * Node lets only sockets that one dials read into buffers of ours (`onread`). A socket that was accepted, or that
 * `node:http` handed over, can get there by moving its handle into a new socket, which takes one property that is not
 * documented, `_handle`. This module is the only place that knows; `tryAdoption` tries it once with real sockets, and where
 * it does not work the pump falls back to `data` events, at 1.4 times the CPU in bulk.
 */
interface Handle {
  /** Bytes the kernel has not taken yet, of the write that libuv is working on. */
  readonly writeQueueSize?: number
}

interface WithHandle {
  _handle?: Handle | null
}

/** The trial takes milliseconds; where it takes this long it has failed. */
const TRIAL_MS = 5_000

let trial: Promise<boolean> | undefined
let works = false

/**
 * Tries adoption once in this thread, with an echo over the loopback. Until it was found to work nothing is adopted, so
 * who wants the fast way from the first socket on waits for this before.
 */
export function tryAdoption(): Promise<boolean> {
  trial ??= adoptionEchoes().then(
    (echoed) => {
      works = echoed
      return echoed
    },
    () => false,
  )
  return trial
}

/**
 * A new socket with the connection of `socket`, which is emptied and destroyed; undefined when that is not possible.
 * The new one is paused. No byte is lost if nothing of `socket` was left in its read buffer.
 */
export function adoptSocket(socket: Socket, onread: OnReadOpts): Socket | undefined {
  void tryAdoption()
  return works ? moveHandle(socket, onread) : undefined
}

function moveHandle(socket: Socket, onread: OnReadOpts): Socket | undefined {
  const holder = socket as Socket & WithHandle
  const handle = holder._handle
  if (!handle || socket.constructor !== Socket || socket.readableLength > 0 || socket.writableLength > 0)
    return undefined
  socket.pause()
  socket.setTimeout(0)
  socket.removeAllListeners()
  holder._handle = null
  // Typed by Node for a constructor that takes no handle; documented for `new net.Socket` only by its source.
  const options: object = { handle, onread, allowHalfOpen: true, pauseOnCreate: true }
  const adopted = new Socket(options)
  socket.destroy()
  adopted.setNoDelay(true)
  return adopted
}

/** Changes whenever the kernel takes bytes of the write that is under way; undefined where Node does not tell. */
export function writeQueueSize(socket: Socket): number | undefined {
  return (socket as Socket & WithHandle)._handle?.writeQueueSize
}

async function adoptionEchoes(): Promise<boolean> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  const client = connect(port, '127.0.0.1')
  try {
    return await new Promise<boolean>((resolve) => {
      server.once('connection', (accepted) => resolve(echoes(accepted, client)))
      client.once('error', () => resolve(false))
      client.setTimeout(TRIAL_MS, () => resolve(false))
    })
  } finally {
    client.destroy()
    server.close()
  }
}

function echoes(accepted: Socket, client: Socket): Promise<boolean> {
  return new Promise((resolve) => {
    const buffer = Buffer.alloc(64)
    const adopted = moveHandle(accepted, {
      buffer: () => buffer,
      callback(length, bytes) {
        adopted?.end(Buffer.from(bytes.subarray(0, length)))
        return true
      },
    })
    if (!adopted) {
      resolve(false)
      return
    }
    adopted.on('error', () => resolve(false))
    client.once('data', (bytes) => resolve(bytes.toString() === 'adopted'))
    adopted.resume()
    client.write('adopted')
  })
}
