import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { formatKey } from '@cyberun/protocol'
import { expect, test } from 'vitest'
import { execute } from './support/binary.ts'
import { fakeApi } from './support/fake-api.ts'
import { folder } from './support/folder.ts'

/** An HTTP proxy that understands CONNECT and nothing else; whatever it is asked for, it connects to `target`. */
async function startProxy(target: URL) {
  const asked: string[] = []
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', (head) => {
      asked.push(/^CONNECT (\S+) /.exec(String(head))?.[1] ?? String(head))
      const onward = connect(Number(target.port), target.hostname, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        socket.pipe(onward).pipe(socket)
      })
      onward.on('error', () => socket.destroy())
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { asked, url: `http://127.0.0.1:${port}`, [Symbol.dispose]: () => void server.close() }
}

const NO_AGENTS = { agent_list: [], page_meta: { current_page: 1, per_page: 100, total_count: 0 } }
const cwd = folder()
const env = { CYBERUN_URL: 'http://api.cyberun.invalid', CYBERUN_KEY: formatKey('sk', new Uint8Array(32)) }

test('the API is called through the proxy of the environment, unless NO_PROXY names it', async () => {
  await using api = await fakeApi({ 'GET /agents': () => ({ status: 200, body: NO_AGENTS }) })
  using proxy = await startProxy(new URL(api.url))
  const proxied = { ...env, HTTPS_PROXY: proxy.url }
  expect(await execute(['agents', '--json'], { cwd, env: proxied })).toMatchObject({ code: 0, stderr: '' })
  expect(proxy.asked).toEqual(['api.cyberun.invalid:80'])
  // The name exists only for the proxy, so without it there is no server.
  expect(await execute(['agents'], { cwd, env: { ...proxied, NO_PROXY: '.invalid' } })).toMatchObject({ code: 6 })
  expect(proxy.asked).toHaveLength(1)
})

test('a proxy that is no HTTP proxy is refused by name of what is expected', async () => {
  const ended = await execute(['agents'], { cwd, env: { ...env, HTTPS_PROXY: 'socks5://127.0.0.1:1080' } })
  expect(ended).toMatchObject({ code: 2, stderr: expect.stringContaining('http://host:port') })
})
