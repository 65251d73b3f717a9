import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lacksPrograms } from '../programs.ts'
import { runProgram } from '../run-program.ts'
import { pattern } from './build.ts'
import { has, withoutDoor } from './compare.ts'
import { ANSWER_DIFFERENCES, REQUEST_DIFFERENCES } from './differences.ts'
import { type DoorFactory, directDoor, type OpenDoor, type Visitor } from './visitor.ts'

/** What curl is asked to do besides the URL; `{data}` is a file of 1 MB. */
const CURL: Readonly<Record<string, { args: readonly string[]; path?: string; input?: Uint8Array }>> = {
  'a plain GET': { args: [] },
  HEAD: { args: ['-I'] },
  'HTTP/1.0': { args: ['--http1.0'] },
  'a form': { args: ['-d', 'a=1&b=%20', '-d', 'c=3'] },
  'a multipart form with a file': { args: ['-F', 'field=value', '-F', 'file=@{data};type=application/x-data'] },
  'an upload from a file': { args: ['-T', '{data}'] },
  'an upload of unknown length': { args: ['-T', '-'], input: pattern(300_000) },
  'an upload that asks first': { args: ['-T', '{data}', '-H', 'Expect: 100-continue', '--expect100-timeout', '30'] },
  'a range': { args: ['-r', '100-199'], path: '/range' },
  'an answer in gzip, unpacked by curl': { args: ['--compressed'], path: '/gzip' },
  'an answer in gzip, left packed': { args: [], path: '/gzip' },
  'a redirect that is followed': { args: ['-L'], path: '/redirect' },
  'a cookie': { args: ['-b', 'given=1; two=2'], path: '/cookie' },
  'basic authentication': { args: ['-u', 'user:pass'] },
  'a path of dots': { args: ['--path-as-is'], path: '/a/../b/%2e%2e/c' },
  'an error, with its body': { args: [], path: '/missing' },
  'a long chunked answer': { args: ['-N'], path: '/long' },
}

/**
 * A service as people write them, on Node's own server, below a base path. It answers what it saw, so that a difference
 * shows.
 */
async function serve(incoming: IncomingMessage, outgoing: ServerResponse, basePath: string): Promise<void> {
  const url = incoming.url ?? '/'
  const { pathname } = new URL(url.startsWith(basePath) ? url.slice(basePath.length) : '/missing', 'http://service')
  switch (pathname) {
    case '/gzip':
      return void outgoing.setHeader('Content-Encoding', 'gzip').end(gzipSync(Buffer.from('packed '.repeat(10_000))))
    case '/range':
      return void outgoing.writeHead(206, { 'Content-Range': 'bytes 100-199/1000' }).end(pattern(100))
    case '/redirect':
      return void outgoing.writeHead(302, { Location: `${basePath}/landed?from=redirect` }).end()
    case '/missing':
      return void outgoing.writeHead(404, 'Nothing Here').end('nothing here')
    case '/long':
      for (let i = 0; i < 200; i++) outgoing.write(pattern(10_000))
      return void outgoing.end()
    default: {
      const hash = createHash('sha256')
      for await (const bytes of incoming) hash.update(bytes as Buffer)
      outgoing.setHeader('Set-Cookie', ['session=1; Path=/', 'other=2'])
      outgoing.end(
        JSON.stringify([incoming.method, incoming.url, seenFields(incoming), bodyHash(incoming, hash.digest('hex'))]),
      )
    }
  }
}

/** The fields of a request that must be the same whichever way it came. */
function seenFields({ rawHeaders }: IncomingMessage): string[] {
  const lines: string[] = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const [name = '', value = ''] = rawHeaders.slice(i, i + 2)
    if (has(REQUEST_DIFFERENCES, [name, value])) continue
    lines.push(`${name}: ${value.replace(/-{20,}\w+/, '(boundary)')}`)
  }
  return lines
}

/** A multipart body has a border that its client made up, so only that there was one can be compared. */
function bodyHash({ headers }: IncomingMessage, hash: string): string {
  return headers['content-type']?.startsWith('multipart/') ? 'multipart' : hash
}

/** Real HTTP clients through `factory`'s door, each held against the same client without it. */
export function runClientSuite(factory: DoorFactory): void {
  describe(`HTTP clients through ${factory.name}`, () => {
    const service = createServer((incoming, outgoing) => void serve(incoming, outgoing, direct.pathPrefix))
    let door: OpenDoor
    let direct: Visitor
    let directory: string

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'cyberun-clients-'))
      writeFileSync(join(directory, 'data'), pattern(1_000_000))
      service.listen(0, '127.0.0.1')
      await once(service, 'listening')
      const address = service.address() as AddressInfo
      door = await factory.start(address)
      direct = { ...(await directDoor.start(address)).visitor, ...door.service }
    })
    afterAll(async () => {
      await door.stop()
      service.close()
      service.closeAllConnections()
      rmSync(directory, { recursive: true, force: true })
    })

    describe.skipIf(lacksPrograms('curl'))('curl', () => {
      for (const [name, { args, path = '/', input }] of Object.entries(CURL)) {
        test(name, async () => {
          const run = ({ host, port, hostHeader, pathPrefix, extraHeaders }: Visitor) => {
            const fields = [['Host', hostHeader] as const, ...extraHeaders].flatMap((field) => ['-H', field.join(': ')])
            const asked = args.map((arg) => arg.replace('{data}', join(directory, 'data')))
            // -q: nobody's own settings; what -w tells comes after the body.
            const told = ['-w', '\n%{http_code} %{size_download} %{num_redirects}']
            const url = `http://${host}:${port}${pathPrefix}${path}`
            const common = ['-q', '-sS', '--noproxy', '*', ...told, ...fields]
            return runProgram('curl', [...common, ...asked, url], input === undefined ? {} : { input })
          }
          const without = await run(direct)
          const through = await run(door.visitor)
          const comparable = (text: string) => comparableOutput(text, door.visitor)
          expect(without.status, without.stderr).toBe(0)
          expect({ ...through, stdout: comparable(through.stdout) }).toEqual({
            ...without,
            stdout: comparable(without.stdout),
          })
        })
      }
    })

    test('node:http with an agent that keeps connections, 200 requests over four of them', async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 4 })
      const { host, port, hostHeader, pathPrefix, extraHeaders } = door.visitor
      const ask = async (i: number): Promise<string> => {
        const headers = { Host: hostHeader, ...Object.fromEntries(extraHeaders) }
        const sent = request({ agent, host, port, method: 'POST', path: `${pathPrefix}/${i}`, headers })
        sent.end(`body ${i}`)
        const [answer] = (await once(sent, 'response')) as [IncomingMessage]
        return text(answer)
      }
      const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => ask(i)))
      agent.destroy()
      for (const [i, answer] of answers.entries()) {
        const hash = createHash('sha256').update(`body ${i}`).digest('hex')
        expect(answer).toContain(`"POST","${direct.pathPrefix}/${i}"`)
        expect(answer).toContain(hash)
      }
    })
  })
}

/** What curl printed without what may differ between the two ways (differences.ts), dates, and where cookies belong. */
function comparableOutput(output: string, { pathPrefix }: Visitor): string {
  const lines = withoutDoor(output, pathPrefix).split('\n')
  return lines
    .filter((line) => {
      const [, name = '', value = ''] = /^([\w-]+): (.*?)\r?$/.exec(line) ?? []
      return name.toLowerCase() !== 'date' && !has(ANSWER_DIFFERENCES, [name, value])
    })
    .join('\n')
}
