import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { writeAll } from './socket-reader.ts'

/** A connection that has not passed on a byte for this long does not do so at all. */
const QUIET_MS = 500
const BLOCK = Buffer.alloc(1 << 20)

/**
 * Writes to a connection that nobody reads until it takes no more. Resolves to the bytes it took, or to Infinity when
 * it took `limit` and would have gone on.
 */
export async function writeUntilStalled(socket: Socket, limit: number): Promise<number> {
  for (let sent = 0; sent < limit; sent += BLOCK.length) {
    const taken = await Promise.race([writeAll(socket, BLOCK).then(() => true), quiet(socket)])
    if (!taken) return passedOn(socket)
  }
  return Number.POSITIVE_INFINITY
}

async function quiet(socket: Socket): Promise<false> {
  for (let before = -1; before !== passedOn(socket); ) {
    before = passedOn(socket)
    await delay(QUIET_MS)
  }
  return false
}

const passedOn = (socket: Socket): number => socket.bytesWritten - socket.writableLength
