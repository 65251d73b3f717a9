import type { IncomingMessage, ServerResponse } from 'node:http'

/** An answer that a route throws when it cannot go on. */
export class HttpAnswer extends Error {
  readonly status: number
  readonly body: unknown

  /** A string is sent as plain text, anything else as JSON. */
  constructor(status: number, body: unknown = '') {
    super(`answered ${status}`)
    this.status = status
    this.body = body
  }
}

export async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const parts: Buffer[] = []
  let size = 0
  for await (const part of request) {
    size += (part as Buffer).length
    if (size > maxBytes)
      throw new HttpAnswer(413, `Maximum request body size ${maxBytes} exceeded, actual body size ${size}`)
    parts.push(part as Buffer)
  }
  return Buffer.concat(parts)
}

/** A body of JSON; anything else is a page of text with status 500, as aiohttp leaves an exception. */
export async function readJson(request: IncomingMessage, maxBytes: number): Promise<Record<string, unknown>> {
  const body = await readBody(request, maxBytes)
  try {
    return JSON.parse(body.toString() || '{}')
  } catch {
    throw new HttpAnswer(500, '500 Internal Server Error\n\nServer got itself in trouble')
  }
}

export function answer(response: ServerResponse, status: number, body: unknown): void {
  const isText = typeof body === 'string'
  const bytes = Buffer.from(isText ? body : JSON.stringify(body))
  response.writeHead(status, {
    'Content-Type': isText ? 'text/plain; charset=utf-8' : 'application/json; charset=utf-8',
    'Content-Length': bytes.length,
  })
  response.end(bytes)
}
