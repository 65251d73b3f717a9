import type { Fields } from '../http/fields.ts'
import type { RefusalCode } from '../http/refusal.ts'
import { FrameCounter } from './frame-counter.ts'

/** Bounds of one tunnel's inspector. */
export const INSPECTOR_LIMITS = {
  /** Requests kept; beyond them the oldest is forgotten. */
  entries: 1_000,
  /** Bytes kept of their heads and bodies together, with the same consequence. */
  bytes: 8 * 1024 * 1024,
  /** Bytes kept of one body, when bodies are kept at all. */
  bodyBytes: 64 * 1024,
  /** An inspector that nobody has read for this long turns itself off at the next request. */
  unreadMs: 3600 * 1000,
} as const

/** What an entry costs beside the text in it. */
const ENTRY_BYTES = 1_024

/** Times of the inspector. */
export interface InspectorClock {
  /** Milliseconds since 1970, to say when. */
  now(): number
  /** Milliseconds of a clock that only goes forward, with fractions, to say how long. */
  tick(): number
}

export interface InspectorSettings {
  clock: InspectorClock
  /** Bodies may hold anything, secrets too, so they are kept only when somebody has asked for them. */
  isBodyKept: boolean
  /** The last measured round trip of the agent's link, in milliseconds. */
  roundTripMs(): number | undefined
  /** Takes the inspector off the tunnel: nobody reads it. */
  turnOff(): void
}

/** What is known of a request when it begins. */
export interface BegunRequest {
  method: string
  /** Path and query, without a path door's prefix. */
  path: string
  /** Null for a request that was sent again. */
  address: string | null
  replayOf: number | null
}

/**
 * Why a request has no whole answer: the edge answered instead of the service or cut its answer off, for that reason; or
 * the visitor left first.
 */
export type InspectedFailure = RefusalCode | 'visitor_gone'

/** The last requests of one tunnel. In memory only; gone when it is turned off, with the tunnel and with the server. */
export class Inspector {
  readonly settings: InspectorSettings
  /** Those kept, each in the slot of its number, so that one takes the place of the one a whole ring before it. */
  readonly #ring: (InspectedRequest | undefined)[] = []
  #lastNumber = 0
  /** The lowest number that is kept, or the next one to be given. */
  #oldest = 1
  #bytes = 0
  #readAt: number

  constructor(settings: InspectorSettings) {
    this.settings = settings
    this.#readAt = settings.clock.now()
  }

  /** Of the newest entry; 0 before there is one. */
  get lastNumber(): number {
    return this.#lastNumber
  }

  get bytes(): number {
    return this.#bytes
  }

  get size(): number {
    return this.#lastNumber - this.#oldest + 1
  }

  isUnread(now: number): boolean {
    return now - this.#readAt > INSPECTOR_LIMITS.unreadMs
  }

  begin(request: BegunRequest): InspectedRequest {
    const { settings } = this
    const now = settings.clock.now()
    if (this.isUnread(now)) settings.turnOff()
    if (this.size === INSPECTOR_LIMITS.entries) this.#forgetOldest()
    this.#lastNumber += 1
    const entry = new InspectedRequest(this.#lastNumber, request, now, this)
    this.#ring[entry.number % INSPECTOR_LIMITS.entries] = entry
    this.grown(entry, ENTRY_BYTES + request.path.length)
    return entry
  }

  /** The entry with this number, unless it is forgotten or never was. */
  read(number: number): InspectedRequest | undefined {
    this.#readAt = this.settings.clock.now()
    return this.#kept(number)
  }

  /** Up to `limit` entries, oldest first: the first ones after the number `after`, or the newest there are. */
  list(after: number | undefined, limit: number): InspectedRequest[] {
    this.#readAt = this.settings.clock.now()
    const first = Math.max(this.#oldest, after === undefined ? this.#lastNumber - limit + 1 : after + 1)
    const last = Math.min(this.#lastNumber, first + limit - 1)
    const listed: InspectedRequest[] = []
    for (let number = first; number <= last; number++) {
      const entry = this.#kept(number)
      if (entry) listed.push(entry)
    }
    return listed
  }

  /** An entry keeps so many bytes more. */
  grown(entry: InspectedRequest, bytes: number): void {
    if (entry.number < this.#oldest) return
    entry.keptBytes += bytes
    this.#bytes += bytes
    while (this.#bytes > INSPECTOR_LIMITS.bytes) this.#forgetOldest()
  }

  #kept(number: number): InspectedRequest | undefined {
    const entry = this.#ring[number % INSPECTOR_LIMITS.entries]
    return entry?.number === number ? entry : undefined
  }

  #forgetOldest(): void {
    const oldest = this.#kept(this.#oldest)
    this.#ring[this.#oldest % INSPECTOR_LIMITS.entries] = undefined
    this.#oldest += 1
    if (!oldest) return
    this.#bytes -= oldest.keptBytes
    oldest.forget()
  }
}

/** A body as far as it is kept. */
export interface KeptBody {
  bytes: Buffer
  /** Nothing of it is missing. */
  isWhole: boolean
}

/** A body that passes: always counted, kept up to a bound when asked. */
class BodyRecord {
  bytes = 0
  #kept: Buffer[] | undefined
  #keptBytes = 0

  constructor(isKept: boolean) {
    this.#kept = isKept ? [] : undefined
  }

  /** Returns how many bytes are kept more than before. */
  add(piece: Uint8Array): number {
    this.bytes += piece.length
    const room = INSPECTOR_LIMITS.bodyBytes - this.#keptBytes
    if (!this.#kept || room === 0) return 0
    // A copy: what passes is only lent to us.
    const copy = Buffer.from(piece.subarray(0, room))
    this.#kept.push(copy)
    this.#keptBytes += copy.length
    return copy.length
  }

  forget(): void {
    this.#kept = undefined
  }

  get kept(): KeptBody | undefined {
    if (!this.#kept) return undefined
    return { bytes: Buffer.concat(this.#kept), isWhole: this.#keptBytes === this.bytes }
  }
}

/** What a WebSocket carried, each way. */
export interface InspectedSocket {
  fromVisitor: FrameCounter
  fromService: FrameCounter
}

/** Where the time of a request went, in milliseconds. The four parts are all of it. */
export interface Timing {
  totalMs: number
  /** Waiting for the visitor: for its body, or until it took what waited for it. */
  visitorMs: number
  /** The rest: what this server took. */
  edgeMs: number
  /** Waiting for the agent: for its link, until it reached the service, or a round trip. */
  agentMs: number
  /** Waiting for the service: for the head of its answer, and until the answer ended. */
  serviceMs: number
  /** From the beginning to the head of the answer. */
  firstByteMs: number | null
}

/**
 * One request while it passes and after. Told of each step by whoever relays it; keeps references to what they have
 * anyway and copies only bodies.
 */
export class InspectedRequest {
  readonly number: number
  readonly request: BegunRequest
  readonly startedAt: number
  /** In the inspector's care. */
  keptBytes = 0
  /** As the service got them, so without what is ours; absent when it never did. */
  requestFields: Fields | undefined
  /** As the service sent them. */
  responseFields: Fields | undefined
  status: number | undefined
  failure: InspectedFailure | undefined
  socket: InspectedSocket | undefined
  readonly requestBody: BodyRecord
  readonly responseBody: BodyRecord
  readonly #settings: InspectorSettings
  readonly #inspector: Inspector
  readonly #begunAt: number
  #askedAt: number | undefined
  /** The connection to the service was opened for this request. */
  #isFresh = false
  /** When the agent said that it reached the service, on a fresh one. */
  #reachedAt: number | undefined
  /** What a connection that existed before costs on the link. */
  #roundTripMs = 0
  /** Spent on getting a connection, and on one that was lost before it answered. */
  #connectingMs = 0
  #sentAt: number | undefined
  #headAt: number | undefined
  #endedAt: number | undefined
  /** Time in which something of the answer waited for the visitor. */
  #untakenMs = 0
  #untakenSince: number | undefined

  constructor(number: number, request: BegunRequest, startedAt: number, inspector: Inspector) {
    const { settings } = inspector
    this.number = number
    this.request = request
    this.startedAt = startedAt
    this.#begunAt = settings.clock.tick()
    this.#settings = settings
    this.#inspector = inspector
    this.requestBody = new BodyRecord(settings.isBodyKept)
    this.responseBody = new BodyRecord(settings.isBodyKept)
  }

  get isOver(): boolean {
    return this.#endedAt !== undefined
  }

  /** It left the ring: what is large is let go while it may still be under way. */
  forget(): void {
    this.requestBody.forget()
    this.responseBody.forget()
  }

  /**
   * The head goes to the service. `reached` settles when the agent has reached it; absent on a connection that carried
   * a request before. `hasBody`: more of the request follows.
   */
  asked(fields: Fields, hasBody: boolean, reached: Promise<void> | undefined): void {
    const now = this.#settings.clock.tick()
    if (this.requestFields === undefined) this.#inspector.grown(this, lengthOf(fields))
    this.requestFields = fields
    if (this.#askedAt !== undefined || reached) this.#connectingMs += now - (this.#askedAt ?? this.#begunAt)
    this.#askedAt = now
    this.#isFresh = reached !== undefined
    this.#roundTripMs = reached ? 0 : (this.#settings.roundTripMs() ?? 0)
    if (!hasBody) this.requestEnded()
    const noteReached = (): void => {
      this.#reachedAt = this.#settings.clock.tick()
    }
    reached?.then(noteReached, noteReached)
  }

  requestBytes(piece: Uint8Array): void {
    const kept = this.requestBody.add(piece)
    if (kept > 0) this.#inspector.grown(this, kept)
  }

  requestEnded(): void {
    this.#sentAt = this.#settings.clock.tick()
  }

  /** The head of the final answer, or of the 101. */
  answered(status: number, fields: Fields): void {
    this.#headAt = this.#settings.clock.tick()
    this.status = status
    this.responseFields = fields
    this.#inspector.grown(this, lengthOf(fields))
  }

  /** `isUntaken`: something of the answer waits for the visitor after this piece. */
  responseBytes(piece: Uint8Array, isUntaken: boolean): void {
    const kept = this.responseBody.add(piece)
    if (kept > 0) this.#inspector.grown(this, kept)
    this.#noteUntaken(isUntaken)
  }

  /** The answer's 101 let a WebSocket through: `ended` comes when that is closed. */
  switched(): InspectedSocket {
    this.socket = { fromVisitor: new FrameCounter(), fromService: new FrameCounter() }
    return this.socket
  }

  /** It is over. `status` is what the edge answered itself, when it did. Telling it twice is harmless. */
  ended(failure?: { code: InspectedFailure; status?: number }): void {
    if (this.#endedAt !== undefined) return
    this.#noteUntaken(false)
    this.#endedAt = this.#settings.clock.tick()
    if (!failure) return
    this.failure = failure.code
    if (this.status === undefined && failure.status !== undefined) this.status = failure.status
  }

  /** When it ended, or null while it is under way. */
  get endedAt(): number | null {
    return this.#endedAt === undefined ? null : this.startedAt + (this.#endedAt - this.#begunAt)
  }

  /** Whether the service got the whole request and all of it is kept, so that it can be sent again. */
  get isRequestWhole(): boolean {
    if (!this.requestFields || this.#sentAt === undefined) return false
    return this.requestBody.bytes === 0 || this.requestBody.kept?.isWhole === true
  }

  /** So far, while it is under way. Of a WebSocket: until it was granted. */
  get timing(): Timing {
    const until = (this.socket && this.#headAt) ?? this.#endedAt ?? this.#settings.clock.tick()
    const totalMs = until - this.#begunAt
    const firstByteMs = this.#headAt === undefined ? null : this.#headAt - this.#begunAt
    if (this.#askedAt === undefined) {
      return { totalMs, visitorMs: 0, edgeMs: 0, agentMs: totalMs, serviceMs: 0, firstByteMs }
    }
    // One after the other: reaching the service, the rest of the request, the service's work, its answer.
    const headAt = this.#headAt ?? until
    const reachedAt = this.#isFresh ? within(this.#askedAt, this.#reachedAt ?? headAt, headAt) : this.#askedAt
    const sentAt = within(reachedAt, this.#sentAt ?? headAt, headAt)
    const roundTripMs = Math.min(this.#roundTripMs, headAt - sentAt)
    const untakenMs = Math.min(this.#untakenMs, until - headAt)
    const agentMs = this.#connectingMs + (reachedAt - this.#askedAt) + roundTripMs
    const visitorMs = sentAt - reachedAt + untakenMs
    const serviceMs = headAt - sentAt - roundTripMs + (until - headAt) - untakenMs
    const edgeMs = Math.max(0, totalMs - visitorMs - agentMs - serviceMs)
    return { totalMs, visitorMs, edgeMs, agentMs, serviceMs, firstByteMs }
  }

  #noteUntaken(isUntaken: boolean): void {
    if (!isUntaken && this.#untakenSince === undefined) return
    const now = this.#settings.clock.tick()
    if (this.#untakenSince !== undefined) this.#untakenMs += now - this.#untakenSince
    this.#untakenSince = isUntaken ? now : undefined
  }
}

function within(least: number, value: number, most: number): number {
  return Math.min(Math.max(least, value), most)
}

function lengthOf(fields: Fields): number {
  let length = 0
  for (const text of fields) length += text.length
  return length
}
