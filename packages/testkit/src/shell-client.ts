import { randomUUID } from 'node:crypto'
import { decodeShellFrame, encodeViewerFrame } from '@cyberun/protocol'
import { WebSocket } from 'ws'

/** Somebody who looks at a shell by a program, over the server's own socket. */
export interface ShellClient {
  /** Everything that the shell has shown so far. */
  readonly output: string
  /** Sends a line, with the key that ends it. */
  type(line: string): void
  /** Goes away; the shell stays. */
  leave(): Promise<void>
  /** Resolves with the code of the socket's close. */
  readonly closed: Promise<number>
}

/**
 * Opens a shell on an agent, or joins one, as `opening` says (docs/terminal.md, "The socket"). Resolves when it is there;
 * rejects with the server's own words when it is not to be.
 */
export async function openShell(controlUrl: string, agentId: string, opening: object): Promise<ShellClient> {
  const url = new URL(`/api/v1/agents/${agentId}/terminal`, controlUrl.replace('http', 'ws'))
  const socket = new WebSocket(url)
  const attached = Promise.withResolvers<void>()
  const closed = new Promise<number>((resolve) => socket.on('close', resolve))
  let output = ''
  let typedBytes = 0
  socket.on('open', () => socket.send(JSON.stringify({ viewer: randomUUID(), cols: 80, rows: 24, ...opening })))
  socket.on('error', attached.reject)
  void closed.then((code) => attached.reject(new Error(`the socket was closed with ${code} before a shell was there`)))
  socket.on('message', (data, isBinary) => {
    if (!isBinary) attached.reject(new Error(String(data)))
    const frame = isBinary && data instanceof Buffer ? decodeShellFrame(data) : undefined
    if (frame?.type === 'attached') attached.resolve()
    else if (frame?.type === 'output') output += Buffer.from(frame.bytes).toString('latin1')
  })
  await attached.promise
  return {
    get output() {
      return output
    },
    type(line) {
      const bytes = new Uint8Array(Buffer.from(`${line}\r`))
      socket.send(encodeViewerFrame({ type: 'input', position: typedBytes, bytes }))
      typedBytes += bytes.length
    },
    async leave() {
      socket.close()
      await closed
    },
    closed,
  }
}
