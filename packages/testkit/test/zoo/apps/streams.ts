import { EventEmitter, once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Page } from 'playwright-core'
import type { Application } from '../application.ts'

/** How long after it was written a chunk may come. */
const CHUNK_MS = 100
const CHUNKS = 8

/**
 * Each chunk says when it was written; page and service share a clock. The page tells of each that it has come, so that one
 * that a busy machine holds back makes none behind it late.
 */
const PAGE = `<!doctype html><title>Streams</title><h1>Streams</h1><pre id="late"></pre>
<script type="module">
  const now = () => performance.timeOrigin + performance.now()
  const late = { sse: [], ndjson: [] }
  const show = () => { document.getElementById('late').textContent = JSON.stringify(late) }
  const note = (kind, writtenAt) => { late[kind].push(now() - writtenAt); show(); fetch('seen/' + kind) }
  const events = new EventSource('events')
  events.onmessage = (event) => note('sse', Number(event.data))
  events.addEventListener('end', () => events.close())
  const answer = await fetch('lines')
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  for (let read; !(read = await reader.read()).done; )
    for (const line of read.value.trim().split('\\n')) note('ndjson', JSON.parse(line).writtenAt)
</script>`

const TYPES = {
  '/': 'text/html',
  '/events': 'text/event-stream',
  '/lines': 'application/x-ndjson',
  '/seen/sse': 'text/plain',
  '/seen/ndjson': 'text/plain',
} as const

const SSE = { seenAt: '/seen/sse', chunk: (at: number) => `data: ${at}\n\n`, last: 'event: end\ndata: 0\n\n' }
const NDJSON = { seenAt: '/seen/ndjson', chunk: (at: number) => `{"writtenAt":${at}}\n`, last: '' }

/** A page that reads an event stream and one of lines, and notes how late each piece is. */
export const streams: Application = {
  name: 'SSE and ndjson',
  profile: 'generic',
  programs: [],
  async start() {
    const seen = new EventEmitter()
    const server = createServer((request, response) => {
      const type = TYPES[request.url as keyof typeof TYPES]
      response.writeHead(type === undefined ? 404 : 200, { 'Content-Type': type ?? 'text/plain' })
      if (request.url === '/events') pour(response, SSE, seen)
      else if (request.url === '/lines') pour(response, NDJSON, seen)
      else response.end(request.url === '/' ? PAGE : '')
      seen.emit(request.url ?? '')
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return {
      port: (server.address() as AddressInfo).port,
      async [Symbol.asyncDispose]() {
        server.close()
        server.closeAllConnections()
      },
    }
  },
  steps: {
    'an event of SSE comes within 100 ms': ({ page }) => checkLateness(page, 'sse'),
    'a line of ndjson comes within 100 ms': ({ page }) => checkLateness(page, 'ndjson'),
  },
}

/** Writes a chunk whenever `seen` tells that the one before has come. */
function pour(response: ServerResponse, { seenAt, chunk, last }: typeof SSE, seen: EventEmitter): void {
  let written = 0
  const next = () => {
    if (written++ < CHUNKS) response.write(chunk(performance.timeOrigin + performance.now()))
    else response.end(last)
  }
  seen.on(seenAt, next)
  response.on('close', () => seen.off(seenAt, next))
  next()
}

/** The median: what holds chunks back holds all of them back, while a busy machine delays one or two. */
async function checkLateness(page: Page, kind: 'sse' | 'ndjson'): Promise<void> {
  const look = ([kind, count]: [string, number]) => {
    const text = document.getElementById('late')?.textContent ?? ''
    const late: number[] = text === '' ? [] : JSON.parse(text)[kind]
    return late.length >= count ? late : undefined
  }
  const late = await (await page.waitForFunction(look, [kind, CHUNKS] as [string, number])).jsonValue()
  const sorted = [...(late ?? [])].sort((a, b) => a - b)
  const median = sorted[Math.floor(sorted.length / 2)] ?? Number.POSITIVE_INFINITY
  if (median > CHUNK_MS) throw new Error(`${kind}: chunks came late by ${sorted.map(Math.round).join(', ')} ms`)
}
