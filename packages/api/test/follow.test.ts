import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type ClientError, createClient, type FollowedEvent } from '../src/client.ts'

/** A server whose answers the test lists: one for each time the stream is asked for. */
type Answer = (response: ServerResponse) => void
let answers: Answer[] = []
let asked: (string | undefined)[] = []
const server = createServer((request: IncomingMessage, response) => {
  asked.push(request.headers['last-event-id'] as string | undefined)
  const answer = answers.shift()
  if (answer) answer(response)
  else response.writeHead(500).end('asked too often')
})
let baseUrl = ''
const id = '0198f000-0000-7000-8000-000000000009'

beforeAll(async () => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => void server.close())
beforeEach(() => {
  asked = []
})

const event = (number: number | undefined, name: string, data: unknown) =>
  `${number === undefined ? '' : `id: ${number}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`
const status = (number: number) => event(number, 'status', { task_id: id, status: 'running' })
const completed = (number: number) => event(number, 'completed', { task_id: id, status: 'completed', output: {} })

/** Sends the text and ends; `retry` makes the client come back at once. */
const stream =
  (text: string, end: 'end' | 'cut' = 'end'): Answer =>
  (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(`retry: 1\n\n${text}`, () => {
      if (end === 'cut') response.destroy()
      else response.end()
    })
  }
const failure =
  (code: number, error_code: string): Answer =>
  (response) =>
    void response
      .writeHead(code, { 'content-type': 'application/json' })
      .end(JSON.stringify({ error_code, error_message: 'No.' }))

async function follow(after?: number, signal?: AbortSignal) {
  const got: FollowedEvent[] = []
  const cuts: ClientError[] = []
  const options = { ...(after !== undefined && { after }), onCut: (error: ClientError) => void cuts.push(error) }
  const end = await (async () => {
    for await (const one of createClient({ baseUrl, token: 'sk-x' }).follow(id, options, signal)) got.push(one)
  })().catch((error: unknown) => error)
  return { got: got.map(({ number, event: name }) => [number, name]), cuts: cuts.map(({ code }) => code), end }
}

test('every event until the one that ends the task', async () => {
  answers = [stream(status(1) + event(undefined, 'progress', { progress: 0.5 }) + completed(2))]
  expect(await follow()).toEqual({
    got: [
      [1, 'status'],
      [undefined, 'progress'],
      [2, 'completed'],
    ],
    cuts: [],
    end: undefined,
  })
  expect(asked).toEqual([undefined])
})

test('after a cut it goes on behind the last event it had', async () => {
  answers = [stream(status(5) + status(6).slice(0, 20), 'cut'), stream(status(6)), stream(completed(7))]
  const { got, cuts, end } = await follow(4)
  expect(got).toEqual([
    [5, 'status'],
    [6, 'status'],
    [7, 'completed'],
  ])
  expect({ cuts, end, asked }).toEqual({ cuts: ['unreachable', 'unreachable'], end: undefined, asked: ['4', '5', '6'] })
})

test('nothing is left of a task that ended before', async () => {
  answers = [(response) => void response.writeHead(204).end()]
  expect(await follow(9)).toEqual({ got: [], cuts: [], end: undefined })
})

test('a refusal that time does not mend is thrown', async () => {
  answers = [failure(404, 'not_found')]
  expect((await follow()).end).toMatchObject({ code: 'not_found', message: 'No.' })
})

test('something that is not this API is named', async () => {
  answers = [(response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('<p>')]
  expect((await follow()).end).toMatchObject({ code: 'bad_answer' })
})

test('it ends when the caller says so, also while it waits to come back', async () => {
  const ending = new AbortController()
  const client = createClient({ baseUrl })
  answers = [failure(503, 'unavailable')]
  const events = client.follow(id, { onCut: () => ending.abort() }, ending.signal)
  await expect(events.next()).rejects.toMatchObject({ code: 'aborted' })
})
