import type { Chunk, LinkStream, PumpSocket, StreamEvents } from '@cyberun/link'
import type { ResetCode } from '@cyberun/protocol'
import { type Awaited, ResponseFault, ResponseParser, type ResponseSink } from '../http/response-parser.ts'
import type { OpenTunnel } from '../open-tunnel.ts'
import type { KeptPiece, PieceOwner } from './answer-writer.ts'

/** Why a connection to a service ended before its answer did. */
export type UpstreamLoss =
  | { kind: 'reset'; code: ResetCode }
  /** The service sent something that is not HTTP, or closed too early. */
  | { kind: 'fault'; message: string }

/** Who awaits the answer. */
export interface UpstreamUser extends ResponseSink {
  /** All that arrived together has been told: time to write what was gathered. */
  onPushed(): void
  /** More of the request may be written. */
  onDrain(): void
  /** The service switched protocols (101); these bytes, valid during the call only, came after its head. */
  onSwitched(rest: Uint8Array): void
  /** The connection is gone and the answer incomplete. Nothing further is told. */
  onLost(loss: UpstreamLoss): void
  /** We failed at what came. The connection is gone, and nothing further is told. */
  onBug(error: unknown): void
}

/** `fresh`: no request was written yet. `idle`: no answer is awaited. `busy`: one is. `over`: nothing is told any more. */
type State = { kind: 'fresh' } | { kind: 'idle' } | { kind: 'busy'; user: UpstreamUser } | { kind: 'over' }

const FRESH: State = { kind: 'fresh' }
const IDLE: State = { kind: 'idle' }
const OVER: State = { kind: 'over' }

/** Who keeps connections between requests. */
export interface UpstreamOwner {
  /** It ended while nobody awaited an answer. */
  onIdleLost(upstream: Upstream): void
  /** Its stream is over for both ends, or was given away. Called once. */
  onClosed(upstream: Upstream): void
}

/** One connection to a tunnelled service: a stream to its agent with our HTTP/1.1 on it, a request at a time. */
export class Upstream implements StreamEvents, PieceOwner {
  readonly #tunnel: OpenTunnel
  readonly #owner: UpstreamOwner
  readonly #parser = new ResponseParser()
  #stream: LinkStream | undefined
  #state: State = FRESH
  /** Why it ended before anybody could be told. */
  #lostEarly: ResetCode | undefined
  /** What is being parsed, for a user who must keep its bytes longer. */
  #pushed: Chunk | undefined
  #shared: SharedChunk | undefined
  /** Chunks that a visitor has not taken yet. */
  #heldChunks = 0
  /** The visitor's socket, in which they wait: no other visitor is served before they are gone. */
  #holder: PumpSocket | undefined
  /** Whether anything came for the answer awaited now. */
  #answerBegan = false
  /** Whether bytes came that belong to no answer, or the service wrote its last byte. */
  #spent = false

  constructor(tunnel: OpenTunnel, owner: UpstreamOwner) {
    this.#tunnel = tunnel
    this.#owner = owner
  }

  /** Tells which stream this speaks on; its events come here. */
  attach(stream: LinkStream): void {
    this.#stream = stream
  }

  /** Settles when the agent has reached the service, or could not. */
  get reached(): Promise<void> | undefined {
    return this.#stream?.accepted
  }

  get answerBegan(): boolean {
    return this.#answerBegan
  }

  /** Whether the next request may go over this connection, as far as its bytes tell. */
  get reusable(): boolean {
    return this.#parser.idle && !this.#spent && this.#state !== OVER
  }

  /** Whether credit of an earlier answer waits for its visitor: the next answer would wait for that one, too. */
  get isHeldUp(): boolean {
    return this.#heldChunks > 0
  }

  /** From here on `user` is told of the answer to the request it writes. */
  begin(user: UpstreamUser, awaited: Awaited): void {
    this.#state = { kind: 'busy', user }
    this.#answerBegan = false
    this.#parser.expect(awaited, user)
    const code = this.#lostEarly
    // Not before the user has written its request.
    if (code) queueMicrotask(() => this.onReset(code))
  }

  /** Nobody awaits an answer now. */
  rest(): void {
    this.#state = IDLE
  }

  /** Gives the stream away after a 101. Whoever takes it listens to it from now on, and ends it. */
  giveAway(): LinkStream {
    if (!this.#stream) throw new Error('a connection without a stream cannot have switched protocols')
    this.#state = OVER
    this.#owner.onClosed(this)
    return this.#stream
  }

  /** False: write no more until `onDrain`. `bytes` must stay unchanged until `onWritten`, as `LinkStream.write` says. */
  write(bytes: Uint8Array, onWritten?: () => void): boolean {
    this.#tunnel.bytesIn += bytes.length
    return this.#stream?.write(bytes, onWritten) ?? false
  }

  /** The same for a piece of a visitor's request, during the call that tells of it. */
  pass(chunk: Chunk): boolean {
    this.#tunnel.bytesIn += chunk.bytes.length
    return this.#stream?.pass(chunk) ?? false
  }

  keep(piece: Uint8Array, socket: PumpSocket): KeptPiece {
    if (!this.#pushed) throw new Error('bytes can only be kept while they are told of')
    if (!this.#shared) {
      this.#heldChunks += 1
      this.#holder = socket
      this.#shared = new SharedChunk(this.#pushed, () => this.#released())
    }
    return this.#shared.keep(piece)
  }

  /** No further request will come. What the service still sends is dropped. */
  end(): void {
    this.#state = OVER
    this.#stream?.end()
  }

  /** Ends the connection now, whatever it is doing. */
  abort(): void {
    this.#state = OVER
    this.#stream?.reset('cancelled')
  }

  onData(chunk: Chunk): void {
    this.#tunnel.bytesOut += chunk.bytes.length
    const user = this.#whoAwaits()
    if (user) this.#parse(chunk, user)
  }

  onEnd(): void {
    this.#spent = true
    const user = this.#whoAwaits()
    if (user) this.#finish(user)
  }

  onReset(code: ResetCode): void {
    if (this.#state.kind === 'fresh') this.#lostEarly = code
    const user = this.#whoAwaits()
    if (user) this.#lose(user, { kind: 'reset', code })
  }

  onDrain(): void {
    if (this.#state.kind === 'busy') this.#state.user.onDrain()
  }

  onClose(): void {
    this.#owner.onClosed(this)
  }

  onReclaim(): void {
    this.#holder?.destroy()
  }

  #released(): void {
    this.#heldChunks -= 1
    if (this.#heldChunks === 0) this.#holder = undefined
  }

  #parse(chunk: Chunk, user: UpstreamUser): void {
    this.#answerBegan = true
    this.#pushed = chunk
    try {
      const used = this.#parser.push(chunk.bytes)
      if (this.#parser.upgraded) {
        user.onSwitched(chunk.bytes.subarray(used))
        return
      }
      if (used < chunk.bytes.length) this.#spent = true
      user.onPushed()
    } catch (error) {
      this.#failed(user, error)
    } finally {
      this.#pushed = undefined
      this.#shared?.release()
      this.#shared = undefined
    }
  }

  #finish(user: UpstreamUser): void {
    try {
      this.#parser.finish()
      user.onPushed()
    } catch (error) {
      this.#failed(user, error)
    }
  }

  #failed(user: UpstreamUser, error: unknown): void {
    if (error instanceof ResponseFault) {
      this.#lose(user, { kind: 'fault', message: error.message })
      return
    }
    this.abort()
    user.onBug(error)
  }

  #lose(user: UpstreamUser, loss: UpstreamLoss): void {
    this.abort()
    user.onLost(loss)
  }

  /**
   * Who is told of what came. Between requests nobody is, and the connection is over: an answer that nobody asked for,
   * whatever it is, must not become the next request's.
   */
  #whoAwaits(): UpstreamUser | undefined {
    if (this.#state.kind === 'busy') return this.#state.user
    if (this.#state.kind === 'idle') {
      this.abort()
      this.#owner.onIdleLost(this)
    }
    return undefined
  }
}

/**
 * A chunk that several pieces of a body lie in: it is held once, until the last of them is given back and whoever made
 * this has told of all of them.
 */
class SharedChunk {
  readonly #chunk: Chunk
  /** Where the chunk began when pieces were cut out of it: to hold it may have moved it. */
  readonly #cutAt: number
  readonly #release: () => void
  readonly #onReleased: () => void
  #holders = 1

  constructor(chunk: Chunk, onReleased: () => void) {
    this.#chunk = chunk
    this.#onReleased = onReleased
    this.#cutAt = chunk.bytes.byteOffset
    this.#release = chunk.hold()
  }

  keep(piece: Uint8Array): KeptPiece {
    this.#holders += 1
    const from = piece.byteOffset - this.#cutAt
    return { bytes: this.#chunk.bytes.subarray(from, from + piece.length), release: () => this.release() }
  }

  release(): void {
    this.#holders -= 1
    if (this.#holders > 0) return
    this.#release()
    this.#onReleased()
  }
}
