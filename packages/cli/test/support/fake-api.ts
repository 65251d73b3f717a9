import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

type Answer = { status: number; body?: unknown; headers?: Record<string, string> }
type Handler = (body: unknown, request: IncomingMessage) => Answer

export interface FakeApi {
  url: string
  /** `GET /users/me`, in the order they came. */
  calls: string[]
  [Symbol.asyncDispose](): Promise<void>
}

/** Answers the calls in `routes` and 404 to all others: for what a real server cannot be made to do on demand. */
export async function fakeApi(routes: Record<string, Handler>): Promise<FakeApi> {
  const calls: string[] = []
  const server = createServer(async (request, response) => {
    const name = `${request.method} ${(request.url ?? '').replace(/^\/api\/v1|\?.*$/g, '')}`
    calls.push(name)
    const body = await readJson(request)
    send(
      response,
      routes[name]?.(body, request) ?? { status: 404, body: { error_message: 'No.', error_code: 'not_found' } },
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      if (server.listening) await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return text === '' ? undefined : JSON.parse(text)
}

function send(response: ServerResponse, { status, body, headers }: Answer): void {
  response.writeHead(status, { 'content-type': 'application/json', 'x-request-id': 'req-1', ...headers })
  response.end(body === undefined ? '' : JSON.stringify(body))
}
