import { createHash } from 'node:crypto'
import { ANSWER_DIFFERENCES, type FieldDifference, PREFIXED_ANSWER_FIELDS, REQUEST_DIFFERENCES } from './differences.ts'
import type { Answer, Body, Field, RequestHead, ResponseHead } from './message.ts'

/** Bodies up to this long are shown in a failure, longer ones by their hash. */
const SHOWN_BYTES = 512

/** What the service received, without what may differ (differences.ts). */
export function comparableRequest(head: RequestHead, body: Body): unknown {
  return {
    line: `${head.method} ${head.target}`,
    fields: without(head.fields, REQUEST_DIFFERENCES),
    body: comparableBody(body),
  }
}

/** What the visitor received, without what may differ and with the door's prefix taken off. */
export function comparableAnswer(answer: Answer, pathPrefix: string): unknown {
  return {
    interim: answer.interim.map((head) => comparableHead(head, pathPrefix)),
    ...comparableHead(answer.head, pathPrefix),
    body: comparableBody(answer.body),
  }
}

function comparableHead(head: ResponseHead, pathPrefix: string): { status: string; fields: string[] } {
  const fields = head.fields.filter(isNoCopy).map(([name, value]): Field => {
    if (!has(PREFIXED_ANSWER_FIELDS, [name, value])) return [name, value]
    return [name, withoutDoor(value, pathPrefix)]
  })
  return { status: `${head.status} ${head.reason}`, fields: without(fields, ANSWER_DIFFERENCES) }
}

/** What doors that tunnels share put in front of the names of cookies. */
const COOKIE_PREFIX = /cyberun\.[0-9a-f]{32}\./g
/** A cookie with that, and after it the one for scripts, which is without. */
const COOKIE_TWICE = /^(set-cookie: )cyberun\.[0-9a-f]{32}\.([^\r\n]*\r?\n)\1\2/gim

/** Whether a field is not the second telling of the cookie before it. */
function isNoCopy([name, value]: Field, at: number, fields: readonly Field[]): boolean {
  const before = fields[at - 1]?.[1] ?? ''
  return name.toLowerCase() !== 'set-cookie' || before === value || before.replace(COOKIE_PREFIX, '') !== value
}

/** Text of an answer's head without what only its door has put there. */
export function withoutDoor(text: string, pathPrefix: string): string {
  const plain = text.replace(COOKIE_TWICE, '$1$2').replaceAll(COOKIE_PREFIX, '')
  return pathPrefix === '' ? plain : plain.replaceAll(pathPrefix, '')
}

function comparableBody(body: Body): unknown {
  const { bytes, trailers, complete } = body
  return {
    framing: body.framing === 'close' ? 'chunked' : body.framing,
    complete,
    trailers: trailers.map(([name, value]) => `${name}: ${value}`),
    bytes:
      bytes.length <= SHOWN_BYTES
        ? bytes.toString('latin1')
        : { length: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') },
  }
}

function without(fields: readonly Field[], differences: readonly FieldDifference[]): string[] {
  return fields.filter((field) => !has(differences, field)).map(([name, value]) => `${name}: ${value}`)
}

/** Whether `field` is one of those listed. */
export function has(differences: readonly FieldDifference[], [name, value]: Field): boolean {
  return differences.some((listed) => listed.name === name.toLowerCase() && (listed.value?.test(value) ?? true))
}
