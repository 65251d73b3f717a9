import { answer, type Reply, type RequestSpec, textAnswer } from './build.ts'
import type { Body, RequestHead } from './message.ts'
import type { ScriptedOrigin } from './origin.ts'
import type { Visitor, VisitorConnection } from './visitor.ts'

/** Run once without the tunnel and once through it; both ends must see the same. */
export interface ComparedCase {
  kind: 'compared'
  name: string
  /** Sent on one connection: each after the answer to the one before, or all at once when `pipelined`. */
  requests: readonly RequestSpec[]
  pipelined: boolean
  /** What the service writes for the request it has just read. */
  reply(request: { head: RequestHead; body: Body; index: number }): Reply
}

/** Run through the tunnel only; the case says itself what must be seen. */
export interface VerdictCase {
  kind: 'verdict'
  name: string
  /** Only where an HTTP hop stands between visitor and service. */
  needsHop: boolean
  /** Only where an RST can be seen: Node tells of none under TLS. */
  needsReset?: true
  /** For what moves so much that the usual patience is too short, in milliseconds. */
  timeoutMs?: number
  run(stage: Stage): Promise<void>
}

export type HttpCase = ComparedCase | VerdictCase

/** What a case plays on. */
export interface Stage {
  readonly origin: ScriptedOrigin
  readonly visitor: Visitor
  /** A visitor beside the service, who asks it by the names that it is asked by through the door. */
  readonly direct: Visitor
  /** A new connection through the door, closed when the case is over. */
  connect(): Promise<VisitorConnection>
  /** The same to another place. */
  connectTo(visitor: Visitor): Promise<VisitorConnection>
}

/** A named group of cases. */
export interface CaseGroup {
  name: string
  cases: readonly HttpCase[]
}

const OK = textAnswer('ok')

/** One request, one reply. */
export function compared(name: string, request: RequestSpec, reply: Reply = OK): ComparedCase {
  return { kind: 'compared', name, requests: [request], pipelined: false, reply: () => reply }
}

/** Several requests on one connection; the reply names the request, so that answers out of order are seen. */
export function comparedSeries(name: string, requests: readonly RequestSpec[], pipelined: boolean): ComparedCase {
  const reply: ComparedCase['reply'] = ({ head, body, index }) => {
    const text = `${index} ${head.method} ${head.target} ${body.bytes.length}`
    return head.method === 'HEAD' ? answer({ fields: [['X-Text', text]] }) : textAnswer(text)
  }
  return { kind: 'compared', name, requests, pipelined, reply }
}

export function verdict(name: string, run: VerdictCase['run']): VerdictCase {
  return { kind: 'verdict', name, needsHop: false, run }
}

/** A verdict that only an HTTP hop can give. */
export function hopVerdict(name: string, run: VerdictCase['run']): VerdictCase {
  return { kind: 'verdict', name, needsHop: true, run }
}
