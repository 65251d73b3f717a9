import { Row } from './row.ts'

/**
 * What counts as use of a tunnel, so that a forgotten tab does not hold the machine behind it, and somebody at work does
 * not lose it. Pure: told what happens and when (milliseconds), nothing else. docs/tunnels.md says the same in words.
 *
 * Three things make it hard. Pages ask again and again by themselves, keep sockets alive, and acknowledge what they are
 * sent. So a read counts only when its path is new to the tunnel; what would change something, and what a socket sends,
 * counts unless a timer makes it (`row.ts`) or it goes on from what a timer made; and a small message soon after one of
 * the service is taken for its acknowledgement. What the service sends by itself never counts.
 */
export const ACTIVITY_LIMITS = {
  /** Paths that were read, remembered by each tunnel; beyond them the one read longest ago is forgotten. */
  reads: 512,
  /** Rows watched by each tunnel and by each socket, with the same consequence. */
  rows: 64,
  /** Characters of a path that are compared. */
  pathCharacters: 200,
  /** A transfer counts when it has taken this long, so that polls, which are over at once, do not. */
  transferMs: 5_000,
  /** ... or has moved this many bytes. */
  transferBytes: 8 * 1024 * 1024,
  /** Work that took this long counts at its end, too, even when it failed. */
  longWorkMs: 60_000,
  /** What a visitor sends within this time of the service's last message may acknowledge it. */
  answerMs: 300,
  /** Acknowledgements, pongs and requests for the next picture have at most this many bytes on the wire. */
  answerBytes: 64,
  /** Some pages wait for so long before they acknowledge: one such small message shows nobody, but a few do. */
  lateAnswerMs: 2_500,
  /** So many within `keysMs`. */
  keys: 4,
  keysMs: 10_000,
  /** What follows the visitor's last message within this time, right after the service's answer, goes on with that ... */
  stepMs: 1_000,
  /** ... for so many steps: a program that asks and asks ends sooner. */
  steps: 10,
  /** Pieces of this size are an upload, which no timer makes; they cost nothing to look at. */
  uploadBytes: 16 * 1024,
  /** A TCP connection that brings this many bytes within `bulkMs` is a download. */
  bulkBytes: 1024 * 1024,
  bulkMs: 10_000,
} as const

/** Methods that change nothing (RFC 9110, section 9.2.1; RFC 4918, section 9.1; RFC 3253, section 3.6; RFC 5323). */
const READS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'PROPFIND', 'REPORT', 'SEARCH'])

/** What a request shows of who makes it. */
export interface SeenRequest {
  method: string
  /** The service's path, with or without a query, which does not matter here. */
  path: string
  /**
   * `click`: a browser says that a person caused this navigation. `navigation`: one of which it does not say that.
   * `page`: what a page asks for. `client`: not a browser; nobody forgets a script in a tab.
   */
  by: 'click' | 'navigation' | 'page' | 'client'
}

/** When a tunnel was last used. */
export class Activity {
  #lastUsedAt: number
  /** Requests that count and are being worked on. */
  readonly #working = new Set<RequestUse>()
  readonly #reads = new Recent<true>(ACTIVITY_LIMITS.reads)
  readonly #rows = new Recent<Row>(ACTIVITY_LIMITS.rows)

  constructor(lastUsedAt: number) {
    this.#lastUsedAt = lastUsedAt
  }

  /** When it was last used, as seen at `now`: now, while anything that counts is being worked on. */
  lastUsedAt(now: number): number {
    return this.#working.size > 0 ? now : this.#lastUsedAt
  }

  /** Notes that it is in use. */
  use(now: number): void {
    if (now > this.#lastUsedAt) this.#lastUsedAt = now
  }

  /** A request begins. */
  request(seen: SeenRequest, now: number): RequestUse {
    const counts = this.#counts(seen, now)
    const use = new RequestUse(this, counts, seen.by === 'client' && !READS.has(seen.method), now)
    if (counts) this.#working.add(use)
    return use
  }

  /** A WebSocket or TCP connection begins. The WebSocket's request was told of before. */
  socket(kind: 'websocket' | 'tcp', now: number): SocketUse {
    if (kind === 'tcp' && !this.#rowOf('tcp').add(now)) this.use(now)
    return new SocketUse(this, kind)
  }

  /** For `RequestUse`: it is not being worked on any more. */
  workedOn(use: RequestUse): void {
    this.#working.delete(use)
  }

  #counts({ method, path, by }: SeenRequest, now: number): boolean {
    if (by === 'click') return true
    if (method === 'OPTIONS' || method === 'TRACE') return false
    if (by === 'client' && !READS.has(method)) return true
    const shape = `${method} ${shapeOf(path)}`
    if (by === 'page' || by === 'client') {
      if (READS.has(method)) return this.#reads.put(shape, true) === undefined
    }
    return !this.#rowOf(shape).add(now)
  }

  #rowOf(name: string): Row {
    const row = this.#rows.get(name) ?? new Row()
    this.#rows.put(name, row)
    return row
  }
}

/** One request's part in the activity of its tunnel. */
export class RequestUse {
  readonly #activity: Activity
  readonly #counts: boolean
  readonly #countsToItsEnd: boolean
  readonly #beganAt: number
  #isDownload = false
  #movedSince: number | undefined
  #moved = 0

  constructor(activity: Activity, counts: boolean, countsToItsEnd: boolean, now: number) {
    this.#activity = activity
    this.#counts = counts
    this.#countsToItsEnd = countsToItsEnd
    this.#beganAt = now
  }

  /** Whether `downloaded` wants to be told. */
  get isDownload(): boolean {
    return this.#isDownload
  }

  /** A piece of the request's body came. */
  uploaded(bytes: number, now: number): void {
    this.#transfer(bytes, now)
  }

  /** The service answers. `isDownload`: with something that ends, not with news for as long as anybody listens. */
  answered(status: number, isDownload: boolean, now: number): void {
    this.#isDownload = isDownload
    if (status < 400 && this.#counts) this.#activity.use(now)
    if (!this.#countsToItsEnd) this.#leave(now)
  }

  /** A piece of the answer came. */
  downloaded(bytes: number, now: number): void {
    if (this.#isDownload) this.#transfer(bytes, now)
  }

  /** It is over, or its visitor is gone. Telling it twice is harmless. */
  ended(now: number): void {
    this.#leave(now)
  }

  #leave(now: number): void {
    this.#activity.workedOn(this)
    if (this.#counts && now - this.#beganAt >= ACTIVITY_LIMITS.longWorkMs) this.#activity.use(now)
  }

  #transfer(bytes: number, now: number): void {
    this.#movedSince ??= now
    this.#moved += bytes
    const isLong = now - this.#movedSince >= ACTIVITY_LIMITS.transferMs
    if (isLong || this.#moved >= ACTIVITY_LIMITS.transferBytes) this.#activity.use(now)
  }
}

/** The part of a WebSocket or TCP connection. */
export class SocketUse {
  readonly #activity: Activity
  readonly #kind: 'websocket' | 'tcp'
  /** By size, and one of all; made when something comes, because most sockets are silent. */
  #rows: Recent<Row> | undefined
  #serviceSpokeAt = Number.NEGATIVE_INFINITY
  /** The visitor's last message that is too large for an acknowledgement, and whether it counted, and how many it went on from. */
  #step = { at: Number.NEGATIVE_INFINITY, counts: false, number: 0 }
  /** When the last small messages came that may be late acknowledgements, oldest first. */
  readonly #keys: number[] = []
  #bulkSince = 0
  #bulk = 0

  constructor(activity: Activity, kind: 'websocket' | 'tcp') {
    this.#activity = activity
    this.#kind = kind
  }

  /** Bytes of the service arrived together. */
  fromService(bytes: number, now: number): void {
    this.#serviceSpokeAt = now
    if (this.#kind !== 'tcp') return
    if (now - this.#bulkSince > ACTIVITY_LIMITS.bulkMs) {
      this.#bulkSince = now
      this.#bulk = 0
    }
    this.#bulk += bytes
    if (this.#bulk >= ACTIVITY_LIMITS.bulkBytes) this.#activity.use(now)
  }

  /** Bytes of the visitor arrived together. */
  fromVisitor(bytes: number, now: number): void {
    if (bytes >= ACTIVITY_LIMITS.uploadBytes) this.#activity.use(now)
    else if (bytes <= ACTIVITY_LIMITS.answerBytes) this.#small(bytes, now)
    else this.#large(bytes, now)
  }

  #small(bytes: number, now: number): void {
    const sinceAnswer = now - this.#serviceSpokeAt
    if (sinceAnswer <= ACTIVITY_LIMITS.answerMs || this.#isSteady(bytes, now)) return
    if (sinceAnswer > ACTIVITY_LIMITS.lateAnswerMs || this.#isOneOfKeys(now)) this.#activity.use(now)
  }

  /** Notes a small message that may be a late acknowledgement; true when there are too many for that. */
  #isOneOfKeys(now: number): boolean {
    this.#keys.push(now)
    if (this.#keys.length < ACTIVITY_LIMITS.keys) return false
    const first = this.#keys.shift() ?? now
    return now - first <= ACTIVITY_LIMITS.keysMs
  }

  #large(bytes: number, now: number): void {
    const answers = now - this.#serviceSpokeAt <= ACTIVITY_LIMITS.answerMs
    const { at, counts, number } = this.#step
    const goesOn = answers && now - at <= ACTIVITY_LIMITS.stepMs && number < ACTIVITY_LIMITS.steps
    this.#step = goesOn
      ? { at: now, counts, number: number + 1 }
      : { at: now, counts: !this.#isSteady(bytes, now), number: 0 }
    if (this.#step.counts) this.#activity.use(now)
  }

  /** Both are told: a row that is steady in one of the views is none of a person. */
  #isSteady(bytes: number, now: number): boolean {
    this.#rows ??= new Recent(ACTIVITY_LIMITS.rows)
    const isSteadyOfItsSize = rowOf(this.#rows, String(sizeClass(bytes))).add(now)
    const isSteady = rowOf(this.#rows, 'all').add(now)
    return isSteadyOfItsSize || isSteady
  }
}

function rowOf(rows: Recent<Row>, name: string): Row {
  const row = rows.get(name) ?? new Row()
  rows.put(name, row)
  return row
}

/** Messages whose sizes differ by less than about a half are alike: counters in them grow, figures change. */
function sizeClass(bytes: number): number {
  return Math.floor(Math.log(Math.max(1, bytes)) / Math.log(1.5))
}

/** A path without its query and with `#` for numbers: polls carry the time in one and count in the other. */
function shapeOf(path: string): string {
  const query = path.indexOf('?')
  const end = Math.min(query < 0 ? path.length : query, ACTIVITY_LIMITS.pathCharacters)
  return path.slice(0, end).replace(/\d+/g, '#')
}

/** A map that forgets what was put longest ago. */
class Recent<T> {
  readonly #limit: number
  readonly #values = new Map<string, T>()

  constructor(limit: number) {
    this.#limit = limit
  }

  get(name: string): T | undefined {
    return this.#values.get(name)
  }

  /** Returns what was there before. */
  put(name: string, value: T): T | undefined {
    const before = this.#values.get(name)
    this.#values.delete(name)
    this.#values.set(name, value)
    const [oldest] = this.#values.size > this.#limit ? this.#values.keys() : []
    if (oldest !== undefined) this.#values.delete(oldest)
    return before
  }
}
