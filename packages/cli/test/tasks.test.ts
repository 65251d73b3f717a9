import { once } from 'node:events'
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Client } from '@cyberun/api/client'
import { expect, onTestFinished, test } from 'vitest'
import { LiveArea } from '../src/tasks/live-area.ts'
import { localFile } from '../src/tasks/local-file.ts'
import { readPair, typedParameters } from '../src/tasks/parameters.ts'
import { pictureProtocol, pictureText } from '../src/tasks/picture.ts'
import { saveFile } from '../src/tasks/save.ts'
import { uploadFile } from '../src/tasks/upload.ts'
import { createUploadMemory } from '../src/tasks/upload-memory.ts'
import { cuttingDoor } from './support/cutting-door.ts'
import { folder } from './support/folder.ts'

const signal = new AbortController().signal

test('values take the types of their parameters, and what does not fit stays as it was typed', () => {
  const known = [
    { key: 'width', type: 'number' },
    { key: 'tiled', type: 'boolean' },
    { key: 'size', type: 'select', options: [512, 1024, 'auto'] },
    { key: 'prompt', type: 'string' },
  ] as const
  const texts = ['width=64', 'tiled=yes', 'size=1024', 'prompt=a=b', 'unknown=5', 'width2=', 'prompt2=5']
  const given = texts.map((text) => readPair('-p', text))
  expect(typedParameters(known as never, given)).toEqual({
    ...{ width: 64, tiled: true, size: 1024, prompt: 'a=b', unknown: '5', width2: '', prompt2: '5' },
  })
  const wrong = ['width=wide', 'tiled=perhaps', 'size=7'].map((text) => readPair('-p', text))
  expect(typedParameters(known as never, wrong)).toEqual({ width: 'wide', tiled: 'perhaps', size: '7' })
  expect(() => readPair('-p', 'width')).toThrow('-p key=value')
  expect(() => readPair('-p', '=5')).toThrow('-p key=value')
})

/** A file, a door that cuts its upload, and a client that presigns one URL to it. */
async function uploadWorld(cuts: number[]) {
  const bytes = Buffer.alloc(3_000_000, 'some picture ')
  const home = folder()
  const path = join(home, 'photo.png')
  writeFileSync(path, bytes)
  const door = await cuttingDoor(bytes.length, cuts)
  const upload = { file_key: 'key', upload_url: door.url, upload_headers: { 'If-None-Match': '*' } }
  const asked: unknown[] = []
  const call = (_name: string, { body }: { body: unknown }) => Promise.resolve(asked.push(body) && upload)
  const memory = createUploadMemory({ env: { HOME: home }, now: Date.now } as never, 'http://server')
  const send = async (onProgress: (sent: number) => void = () => {}, until = signal) =>
    uploadFile({ call } as unknown as Client, memory, await localFile(path), onProgress, until)
  return { path, bytes, door, asked, send, [Symbol.asyncDispose]: () => door[Symbol.asyncDispose]() }
}

test('an upload that is cut goes on where it was', async () => {
  await using world = await uploadWorld([1_000_000, 1_700_000])
  const progress: number[] = []
  expect(await world.send((sent) => progress.push(sent))).toBe('key')
  expect(world.asked).toEqual([{ file_name: 'photo.png', file_size: 3_000_000, content_type: 'image/png' }])
  expect(world.door.starts).toEqual([0, 1_000_000, 1_700_000])
  expect(world.door.bytes().equals(world.bytes)).toBe(true)
  expect(progress.at(-1)).toBe(3_000_000)
})

test('an upload that one command began is finished by the next, and then forgotten', async () => {
  await using world = await uploadWorld([1_000_000])
  const stopped = new AbortController()
  const first = world.send(() => {}, stopped.signal)
  await expect.poll(() => world.door.bytes().length).toBe(1_000_000)
  stopped.abort()
  await expect(first).rejects.toThrow()
  expect(await world.send()).toBe('key')
  expect(world.asked, 'presigned once').toHaveLength(1)
  expect(world.door.starts).toEqual([0, 1_000_000])
  expect(world.door.bytes().equals(world.bytes)).toBe(true)
  await world.send()
  expect(world.asked, 'another upload of the same file is a new one').toHaveLength(2)
})

test('a file that becomes shorter while it is uploaded is an error at once', async () => {
  await using world = await uploadWorld([])
  const sent = world.send(() => truncateSync(world.path, 100_000))
  await expect(sent).rejects.toThrow(/photo.png could not be uploaded: it became shorter: \d+ bytes of 3000000/)
  expect(world.door.starts).toEqual([0])
})

test.each([
  ['nothing.png', 'ENOENT'],
  ['.', 'is not a file'],
])('%s cannot be uploaded: %s', async (name, says) => {
  await expect(localFile(join(folder(), name))).rejects.toThrow(says)
})

/** Serves bytes; cuts each of the first `cuts` answers after as many bytes. */
async function downloads(bytes: Buffer, { cuts, after }: { cuts: number; after: number }): Promise<string> {
  let answers = 0
  const server = createServer((request, response) => {
    const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const headers = { 'content-length': bytes.length - from }
    response.writeHead(from > 0 ? 206 : 200, headers)
    if (++answers > cuts) response.end(bytes.subarray(from))
    else response.write(bytes.subarray(from, from + after), () => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`
}

test('files are saved whole, under safe names, and never over others', async () => {
  const bytes = Buffer.alloc(1_000_000, 'a picture ')
  const into = join(folder(), 'new', 'folder')
  const url = await downloads(bytes, { cuts: 1, after: 500_000 })
  const save = (name: string) => saveFile(into, { key: 'k', name, url }, signal)
  expect(await save('../../cat.png')).toBe(join(into, 'cat.png'))
  expect(await save('cat.png')).toBe(join(into, 'cat-2.png'))
  expect(await save('C:\\cat.png')).toBe(join(into, 'cat-3.png'))
  expect(await save('\u0000..')).toBe(join(into, 'file'))
  expect(readdirSync(into).sort()).toEqual(['cat-2.png', 'cat-3.png', 'cat.png', 'file'])
  for (const name of readdirSync(into)) expect(readFileSync(join(into, name)).equals(bytes), name).toBe(true)
})

test('a download that is cut again and again gets through, as long as each try brings something', async () => {
  const bytes = Buffer.alloc(1_000_000, 'a film ')
  const url = await downloads(bytes, { cuts: 6, after: 100_000 })
  const path = await saveFile(folder(), { key: 'k', name: 'film.mp4', url }, signal)
  expect(readFileSync(path).equals(bytes)).toBe(true)
})

test('pictures are for terminals that show them, and hold nothing but base64', () => {
  expect(pictureProtocol({ TERM: 'xterm-kitty' })).toBe('kitty')
  expect(pictureProtocol({ TERM_PROGRAM: 'iTerm.app' })).toBe('iterm')
  expect(pictureProtocol({ TERM: 'xterm-kitty', TMUX: '/tmp/tmux' })).toBeUndefined()
  expect(pictureProtocol({ TERM: 'xterm-256color' })).toBeUndefined()
  expect(pictureText('iterm', 'image/png', 'AAAA\x07\x1b]0;evil', 10)).toBeUndefined()
  expect(pictureText('kitty', 'image/jpeg', 'AAAA', 10)).toBeUndefined()
  expect(pictureText('iterm', 'image/jpeg', 'AAAA', 10)).toContain('height=10;')
  const long = pictureText('kitty', 'image/png', 'A'.repeat(10_000), 10) ?? ''
  const pieces = long.split('\x1b_G').slice(1)
  const [first, second, last] = pieces.map((piece) => piece.replace('\x1b\\', ''))
  expect(pieces).toHaveLength(3)
  expect([first, second]).toEqual([expect.stringMatching(/^a=T,[^;]*m=1;A{4096}$/), `m=1;${'A'.repeat(4096)}`])
  expect(last).toBe(`m=0;${'A'.repeat(1808)}`)
})

test('what is printed stays above the line that is redrawn', () => {
  let shown = ''
  const area = new LiveArea({ columns: 12, write: (text: string) => (shown += text) } as never, undefined)
  area.update('one')
  area.print('stays\n')
  area.update('a line that is too long')
  area.end()
  expect(shown).toBe('one\r\x1b[Jstays\none\r\x1b[Ja line tha…\r\x1b[K')
})
