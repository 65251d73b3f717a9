import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface CuttingDoor extends AsyncDisposable {
  url: string
  /** What came in so far. */
  bytes(): Buffer
  /** Where each upload began. */
  starts: number[]
}

/** A file door that cuts the connection of an upload after so many bytes, once for each of `cuts`. */
export async function cuttingDoor(size: number, cuts: number[]): Promise<CuttingDoor> {
  let kept = Buffer.alloc(0)
  const starts: number[] = []
  const server = createServer(async (request, response) => {
    if (request.method === 'HEAD') {
      response.writeHead(200, { 'upload-offset': kept.length }).end()
      return
    }
    const start = Number(/^bytes (\d+)-/.exec(String(request.headers['content-range']))?.[1] ?? 0)
    starts.push(start)
    kept = kept.subarray(0, start)
    const cutAt = cuts.shift()
    try {
      for await (const piece of request) {
        kept = Buffer.concat([kept, piece as Buffer])
        if (cutAt === undefined || kept.length < cutAt) continue
        kept = kept.subarray(0, cutAt)
        request.socket.destroy()
        return
      }
    } catch {
      return // It was cut above.
    }
    response.writeHead(kept.length === size ? 200 : 409).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/files/inputs/x`,
    bytes: () => kept,
    starts,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
