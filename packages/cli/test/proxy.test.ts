import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatKey } from '@cyberun/protocol'
import { expect, test } from 'vitest'
import { execute } from './support/binary.ts'
import { fakeApi } from './support/fake-api.ts'

/** An HTTP proxy that understands CONNECT and nothing else, and remembers what it was asked for. */
async function startProxy() {
  const asked: string[] = []
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', (head) => {
      const [, host = '', port = ''] = /^CONNECT (\S+):(\d+) /.exec(String(head)) ?? []
      asked.push(`${host}:${port}`)
      const target = connect(Number(port), host, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        socket.pipe(target).pipe(socket)
      })
      target.on('error', () => socket.destroy())
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { asked, url: `http://127.0.0.1:${port}`, [Symbol.dispose]: () => void server.close() }
}

const NO_AGENTS = { agent_list: [], page_meta: { current_page: 1, per_page: 100, total_count: 0 } }

test('the API is called through the proxy of the environment, unless NO_PROXY names it', async () => {
  await using api = await fakeApi({ 'GET /agents': () => ({ status: 200, body: NO_AGENTS }) })
  using proxy = await startProxy()
  const cwd = mkdtempSync(join(tmpdir(), 'cyberun-proxy-'))
  const env = { CYBERUN_URL: api.url, CYBERUN_KEY: formatKey('sk', new Uint8Array(32)), http_proxy: proxy.url }
  expect(await execute(['agents', '--json'], { cwd, env })).toMatchObject({ code: 0, stderr: '' })
  expect(proxy.asked).toEqual([new URL(api.url).host])
  expect(await execute(['agents'], { cwd, env: { ...env, NO_PROXY: '127.0.0.1' } })).toMatchObject({ code: 0 })
  expect(proxy.asked).toHaveLength(1)
})

test('a proxy that is no HTTP proxy is refused by name of what is expected', async () => {
  const cwd = mkdtempSync(join(tmpdir(), 'cyberun-proxy-'))
  const env = { CYBERUN_KEY: formatKey('sk', new Uint8Array(32)), http_proxy: 'socks5://127.0.0.1:1080' }
  const ended = await execute(['agents'], { cwd, env })
  expect(ended).toMatchObject({ code: 2, stderr: expect.stringContaining('http://host:port') })
})
