import { once } from 'node:events'
import { mkdtemp, readdir, readlink, rm, symlink } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { parseS3Url } from '../../src/files/s3-place.ts'
import { openS3Store } from '../../src/files/s3-store.ts'
import { sweepFiles } from '../../src/files/sweep.ts'
import { commitArtifact, findInput } from '../../src/store/files.ts'
import { type FilesWorld, openFilesWorld, sha256 } from './files-world.ts'
import { startBucket } from './object-stores.ts'

const directories: string[] = []
afterAll(() => Promise.all(directories.map((directory) => rm(directory, { recursive: true }))))

let world: FilesWorld
const logged: string[] = []
const log = createLog({ level: 'debug', format: 'json', write: (line) => logged.push(line) })
beforeEach(async () => {
  const directory = await mkdtemp(join(tmpdir(), 'cyberun-files-'))
  directories.push(directory)
  logged.length = 0
  world = await openFilesWorld({ directory, log })
})
afterEach(() => world[Symbol.asyncDispose]())

const BYTES = Buffer.from('0123456789')

async function put(url: string, headers: Record<string, string>, body: Uint8Array): Promise<Response> {
  return fetch(url, { method: 'PUT', headers, body: Buffer.from(body) })
}

/** An upload that is cut after `bytes`, of those it announced. */
async function cutUpload(
  url: string,
  headers: Record<string, string>,
  length: number,
  bytes: Uint8Array,
): Promise<void> {
  const request = httpRequest(url, { method: 'PUT', headers: { ...headers, 'content-length': length } })
  request.on('error', () => {}) // it is cut on purpose
  request.write(bytes)
  await once(request, 'socket')
  await expect.poll(() => probe(url)).toBe(bytes.length)
  request.destroy()
}

async function probe(url: string): Promise<number> {
  const response = await fetch(url, { method: 'HEAD' })
  expect(response.status).toBe(200)
  return Number(response.headers.get('upload-offset'))
}

async function errorOf(response: Response): Promise<{ status: number; code: string }> {
  const { error_code, error_message } = (await response.json()) as { error_code: string; error_message: string }
  expect(error_message).toMatch(/^[A-Z].*[.]$/)
  return { status: response.status, code: error_code }
}

async function storedKeys(): Promise<string[]> {
  const keys: string[] = []
  for await (const page of world.objects.list()) keys.push(...page.map(({ key }) => key))
  return keys
}

/** The objects that this process has open. */
async function openObjects(): Promise<string[]> {
  const descriptors = (await readdir('/proc/self/fd')).map((name) => join('/proc/self/fd', name))
  // One that was closed since the folder was read is no link any more.
  const paths = await Promise.all(descriptors.map((path) => readlink(path).catch(() => '')))
  return paths.filter((path) => path.startsWith(join(directories.at(-1) ?? '', 'files', 'objects')))
}

async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

/** An artifact with these bytes, committed. */
async function artifact(bytes: Uint8Array, about: { fileName?: string; contentType?: string } = {}): Promise<string> {
  const attempt = await world.runningTask()
  const objectKey = `out-${attempt.taskId}`
  const staged = await world.objects.write(objectKey, only(bytes), { maxBytes: bytes.length })
  await staged.commit()
  const made = await commitArtifact(world.store, attempt, {
    ...{ artifactId: attempt.taskId, key: 'k', fileName: 'out.png', contentType: 'image/png', ...about },
    ...{ size: bytes.length, sha256: staged.sha256, objectKey },
  })
  if (made.kind !== 'stored') throw new Error(made.kind)
  return world.files.downloadUrl(made.artifactId).url
}

test('a presigned file is uploaded once, as announced', async () => {
  const { fileKey, uploadUrl, uploadHeaders } = await world.presign(10)
  expect(uploadHeaders).toEqual({ 'Content-Type': 'image/png', 'If-None-Match': '*' })
  const response = await put(uploadUrl, uploadHeaders, BYTES)
  expect([response.status, response.headers.get('etag')]).toEqual([200, `"${sha256(BYTES)}"`])
  expect(await findInput(world.store, fileKey)).toMatchObject({ sha256: sha256(BYTES), size: 10 })
  expect(await errorOf(await put(uploadUrl, uploadHeaders, BYTES))).toEqual({
    status: 412,
    code: 'precondition_failed',
  })
  expect(await storedKeys(), 'only the first one is kept').toHaveLength(1)
})

test('of many uploads of one file at once, exactly one wins', async () => {
  const { uploadUrl, uploadHeaders } = await world.presign(10)
  const tries = await Promise.allSettled(Array.from({ length: 20 }, () => put(uploadUrl, uploadHeaders, BYTES)))
  const statuses = tries.map((done) => (done.status === 'fulfilled' ? done.value.status : 'cut'))
  expect(statuses.filter((status) => status === 200)).toHaveLength(1)
  expect(statuses.filter((status) => status !== 200 && status !== 412 && status !== 'cut')).toEqual([])
  expect(await storedKeys()).toHaveLength(1)
})

test.each([
  ['without If-None-Match', { 'If-None-Match': '' }, 10, 400, 'invalid_request'],
  ['with another type', { 'Content-Type': 'text/html' }, 10, 400, 'invalid_request'],
  ['with too few bytes', {}, 9, 400, 'invalid_request'],
  ['with too many bytes', {}, 11, 413, 'payload_too_large'],
  ['with a range that is none', { 'Content-Range': 'bytes 5-10/11' }, 10, 400, 'invalid_request'],
  ['from a place where it is not', { 'Content-Range': 'bytes 5-9/10' }, 5, 409, 'conflict'],
])('an upload %s is refused', async (_, headers, size, status, code) => {
  const { fileKey, uploadUrl, uploadHeaders } = await world.presign(10)
  const response = await put(uploadUrl, { ...uploadHeaders, ...headers }, Buffer.alloc(size))
  expect(await errorOf(response)).toEqual({ status, code })
  expect((await findInput(world.store, fileKey))?.uploadedAt).toBeNull()
  expect(await storedKeys()).toEqual([])
})

test('an upload that does not say how long it is, is refused', async () => {
  const { uploadUrl, uploadHeaders } = await world.presign(10)
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(BYTES)
      controller.close()
    },
  })
  const response = await fetch(uploadUrl, {
    method: 'PUT',
    headers: uploadHeaders,
    body,
    duplex: 'half',
  } as RequestInit)
  expect(await errorOf(response)).toEqual({ status: 411, code: 'length_required' })
})

test('a refused upload is told before its body is asked for', async () => {
  const { uploadUrl, uploadHeaders } = await world.presign(10)
  await put(uploadUrl, uploadHeaders, BYTES)
  const request = httpRequest(uploadUrl, {
    method: 'PUT',
    headers: { ...uploadHeaders, 'content-length': 10, expect: '100-continue' },
  })
  let wasAsked = false
  request.on('continue', () => {
    wasAsked = true
  })
  request.flushHeaders()
  const [response] = await once(request, 'response')
  request.destroy()
  expect([response.statusCode, wasAsked]).toEqual([412, false])
})

test('a file of no bytes is a file', async () => {
  const fileKey = await world.upload(new Uint8Array())
  expect(await findInput(world.store, fileKey)).toMatchObject({ size: 0, sha256: sha256(new Uint8Array()) })
})

test('a cut upload is not there, and goes on where it was', async () => {
  const bytes = Buffer.alloc(300_000, 'abc')
  const { fileKey, uploadUrl, uploadHeaders } = await world.presign(bytes.length)
  expect(await probe(uploadUrl)).toBe(0)
  await cutUpload(uploadUrl, uploadHeaders, bytes.length, bytes.subarray(0, 200_000))
  expect((await findInput(world.store, fileKey))?.uploadedAt).toBeNull()
  expect(await storedKeys()).toEqual([])

  const offset = await probe(uploadUrl)
  expect(offset).toBe(200_000)
  const range = `bytes ${offset}-${bytes.length - 1}/${bytes.length}`
  const resumed = await put(uploadUrl, { ...uploadHeaders, 'Content-Range': range }, bytes.subarray(offset))
  expect([resumed.status, resumed.headers.get('etag')]).toEqual([200, `"${sha256(bytes)}"`])
  expect(await probe(uploadUrl), 'all of it is here').toBe(bytes.length)
})

test('an upload that was cut after its last byte, and before it was stored, is finished by that byte', async () => {
  const { fileKey, uploadUrl, uploadHeaders } = await world.presign(10)
  async function* cutAtTheEnd() {
    yield BYTES
    throw new Error('cut')
  }
  const writing = world.objects.write('in-cut', cutAtTheEnd(), { maxBytes: 10, resume: { name: fileKey, from: 0 } })
  await expect(writing).rejects.toThrow('cut')
  expect(await probe(uploadUrl)).toBe(9)
  const last = { ...uploadHeaders, 'Content-Range': 'bytes 9-9/10' }
  const response = await put(uploadUrl, last, BYTES.subarray(9))
  expect([response.status, response.headers.get('etag')]).toEqual([200, `"${sha256(BYTES)}"`])
})

test('a cut upload may also start over', async () => {
  const bytes = Buffer.alloc(100_000, 'x')
  const { uploadUrl, uploadHeaders } = await world.presign(bytes.length)
  await cutUpload(uploadUrl, uploadHeaders, bytes.length, Buffer.alloc(60_000, 'y'))
  const response = await put(uploadUrl, uploadHeaders, bytes)
  expect([response.status, response.headers.get('etag')]).toEqual([200, `"${sha256(bytes)}"`])
})

test('a URL is good for its file, its method and its hour, and says what is wrong otherwise', async () => {
  const first = await world.presign(10)
  const second = await world.presign(10)
  const signature = new URL(first.uploadUrl).search
  const other = new URL(second.uploadUrl)
  other.search = signature
  const send = (url: URL | string) => put(String(url), first.uploadHeaders, BYTES)
  expect(await errorOf(await send(other)), 'another file').toEqual({ status: 403, code: 'forbidden' })
  const got = await fetch(first.uploadUrl)
  expect(got.status, 'another method').toBe(403)
  expect(((await got.json()) as { error_message: string }).error_message).toContain('signed for PUT')
  const unsigned = new URL(first.uploadUrl)
  unsigned.search = ''
  expect(await errorOf(await send(unsigned)), 'no signature').toEqual({ status: 403, code: 'forbidden' })
  const elsewhere = new URL('/files/other/x', first.uploadUrl)
  expect(await errorOf(await send(elsewhere)), 'no such place').toEqual({ status: 404, code: 'not_found' })

  const download = await artifact(BYTES)
  expect(await errorOf(await put(download, first.uploadHeaders, BYTES))).toEqual({ status: 403, code: 'forbidden' })
  expect((await fetch(download)).status).toBe(200)
  world.pass(61 * 60_000)
  for (const response of [await send(first.uploadUrl), await fetch(download)]) {
    expect(response.status).toBe(403)
    expect(((await response.json()) as { error_message: string }).error_message).toContain('expired')
  }
})

test('an artifact is an attachment that runs nowhere', async () => {
  const url = await artifact(BYTES, { fileName: '../<b>é"\r\nX-Evil: 1.svg', contentType: 'image/svg+xml' })
  const response = await fetch(url)
  expect(await response.text()).toBe('0123456789')
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-disposition': `attachment; filename="_b___X-Evil_ 1.svg"; filename*=UTF-8''_b_%C3%A9_X-Evil_%201.svg`,
    'content-type': 'image/svg+xml',
    'content-length': '10',
    'x-content-type-options': 'nosniff',
    'content-security-policy': expect.stringContaining('sandbox'),
    'access-control-allow-origin': '*',
    'accept-ranges': 'bytes',
    etag: `"${sha256(BYTES)}"`,
  })
  expect(response.headers.get('x-evil')).toBeNull()
  expect(response.headers.get('access-control-allow-credentials')).toBeNull()
})

test.each([
  [{ range: 'bytes=2-4' }, 206, '234', 'bytes 2-4/10'],
  [{ range: 'bytes=-3' }, 206, '789', 'bytes 7-9/10'],
  [{ range: 'bytes=20-' }, 416, undefined, 'bytes */10'],
  [{ range: 'bytes=0-1,3-4' }, 200, '0123456789', null],
  [{ range: 'bytes=2-4', 'if-range': '"other"' }, 200, '0123456789', null],
  [{ range: 'bytes=2-4', 'if-range': `"${sha256(BYTES)}"` }, 206, '234', 'bytes 2-4/10'],
  [{ 'if-none-match': `W/"${sha256(BYTES)}"` }, 304, '', null],
  [{ 'if-none-match': '"other"' }, 200, '0123456789', null],
  [{ 'if-match': '"other"' }, 412, undefined, null],
])('GET with %j is %i', async (headers, status, body, contentRange) => {
  const response = await fetch(await artifact(BYTES), { headers: headers as Record<string, string> })
  expect([response.status, response.headers.get('content-range')]).toEqual([status, contentRange])
  const text = await response.text()
  if (body !== undefined) expect(text).toBe(body)
})

test('HEAD says the same without the bytes, and knows no ranges', async () => {
  const response = await fetch(await artifact(BYTES), { method: 'HEAD', headers: { range: 'bytes=2-4' } })
  expect([response.status, response.headers.get('content-length')]).toEqual([200, '10'])
  expect(await response.text()).toBe('')
})

test('a page of any origin may ask', async () => {
  const { uploadUrl } = await world.presign(10)
  const response = await fetch(uploadUrl, {
    method: 'OPTIONS',
    headers: { origin: 'https://app.example', 'access-control-request-method': 'PUT' },
  })
  expect(response.status).toBe(204)
  expect(response.headers.get('access-control-allow-methods')).toContain('PUT')
  expect(response.headers.get('access-control-allow-headers')).toContain('if-none-match')
})

test('a full disk is told, nothing is left of the file, and the next try may work', async () => {
  const { fileKey, uploadUrl, uploadHeaders } = await world.presign(10)
  // Whatever is written there, the kernel answers that there is no space.
  const staged = join(directories.at(-1) ?? '', 'files', 'staged')
  await symlink('/dev/full', join(staged, fileKey))
  expect(await errorOf(await put(uploadUrl, uploadHeaders, BYTES))).toEqual({ status: 507, code: 'storage_full' })
  expect(await readdir(staged)).toEqual([])
  expect(await storedKeys()).toEqual([])
  expect((await put(uploadUrl, uploadHeaders, BYTES)).status).toBe(200)
})

test('a client that leaves is no error', async () => {
  const url = await artifact(Buffer.alloc(20_000_000))
  const response = await fetch(url)
  await response.body?.getReader().cancel()
  await put((await world.presign(10)).uploadUrl, {}, BYTES)
  await expect.poll(() => logged.filter((line) => line.includes('files.client_left'))).toHaveLength(1)
  expect(logged.filter((line) => line.includes('"level":"error"'))).toEqual([])
})

test('the same holds with a bucket behind it', async () => {
  await using bucket = await startBucket()
  await world[Symbol.asyncDispose]()
  const directory = directories.at(-1) ?? ''
  world = await openFilesWorld({ directory, log, objects: await openS3Store(parseS3Url(bucket.url)) })
  const { uploadUrl, uploadHeaders } = await world.presign(10)
  expect((await put(uploadUrl, uploadHeaders, BYTES)).status).toBe(200)
  expect((await put(uploadUrl, uploadHeaders, BYTES)).status).toBe(412)
  const bytes = Buffer.alloc(9_000_000, 'abc')
  const url = await artifact(bytes)
  expect(sha256(Buffer.from(await (await fetch(url)).arrayBuffer()))).toBe(sha256(bytes))
  expect(await (await fetch(url, { headers: { range: 'bytes=3-5' } })).text()).toBe('abc')
  expect((await fetch(url, { method: 'HEAD' })).headers.get('content-length')).toBe('9000000')
  await world.objects.write('out-orphan', only(BYTES), { maxBytes: 10 }).then((staged) => staged.commit())
  expect(await sweepFiles(world.context, Date.now() + 60_000)).toMatchObject({ expired: 0, orphans: 1 })
  world.pass(8 * 24 * 60 * 60_000)
  expect(await sweepFiles(world.context, 0)).toMatchObject({ expired: 2 })
  expect(await storedKeys()).toEqual([])
})

test('a file beyond the limit is refused before it is sent', async () => {
  await expect(world.presign(50_000_001)).rejects.toMatchObject({ code: 'payload_too_large' })
})

test('a download that is hung up on leaves nothing open', async () => {
  const url = await artifact(Buffer.alloc(20_000_000))
  const response = await fetch(url)
  const reader = response.body?.getReader()
  await reader?.read()
  await expect.poll(openObjects).toHaveLength(1)
  await reader?.cancel()
  await expect.poll(openObjects).toEqual([])
  expect((await fetch(url)).status).toBe(200)
})
