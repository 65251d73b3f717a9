import { once } from 'node:events'
import { connect } from 'node:net'

/** Sends bytes as they are and returns everything the server wrote until it closed. */
export async function rawRequest(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let received = ''
  socket.setEncoding('latin1').on('data', (text) => {
    received += text
  })
  socket.write(bytes, 'latin1')
  await once(socket, 'close')
  return received
}
