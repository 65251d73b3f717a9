import { startProduct } from '@cyberun/testkit'
import type { Contender } from './contender.ts'

/**
 * What this repository makes: a server and an agent, each in its own process, with a tcp and an http session to the
 * service. Bulk over tcp is the documented main path (`cyberun forward`); bulk over http is an upgraded connection.
 */
export async function startTunnels(
  directory: string,
  servicePort: number,
): Promise<AsyncDisposable & { list: Contender[] }> {
  const product = await startProduct(directory)
  const ends = { near: [product.server.pid], far: [product.agent.pid], async [Symbol.asyncDispose]() {} }
  const tcp = await product.openTunnel(servicePort, 'tcp')
  const http = await product.openTunnel(servicePort, 'http')
  return {
    list: [
      {
        name: 'tunnel',
        route: { kind: 'relay', port: product.edgePort, path: tcp },
        url: undefined,
        ...ends,
      },
      {
        name: 'http tunnel',
        route: { kind: 'upgrade', port: product.edgePort, path: http },
        url: `http://127.0.0.1:${product.edgePort}${http}small`,
        ...ends,
      },
    ],
    [Symbol.asyncDispose]: () => product[Symbol.asyncDispose](),
  }
}
