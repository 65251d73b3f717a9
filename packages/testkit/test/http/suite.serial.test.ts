import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:net'
import { runClientSuite } from '../../src/http-suite/clients.ts'
import { runHttpSuite } from '../../src/http-suite/index.ts'
import { type DoorFactory, directDoor } from '../../src/http-suite/visitor.ts'

/** The suite must hold where nothing stands between, and where something only copies bytes. */
runHttpSuite(directDoor, { bulkMebibytes: 16 })

const copyingDoor: DoorFactory = {
  name: 'a relay that copies bytes',
  parses: false,
  async start({ port }) {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (visitor) => {
      const service = connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true })
      visitor.pipe(service).pipe(visitor)
      visitor.on('error', () => service.resetAndDestroy())
      service.on('error', () => visitor.resetAndDestroy())
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const relayPort = (server.address() as AddressInfo).port
    return {
      visitor: {
        host: '127.0.0.1',
        port: relayPort,
        hostHeader: `localhost:${port}`,
        pathPrefix: '',
        extraHeaders: [],
      },
      stop: async () => void server.close(),
    }
  },
}
runHttpSuite(copyingDoor, { bulkMebibytes: 16 })
runClientSuite(copyingDoor)
