import { Socket } from 'node:net'
import { type LinkStream, PumpSocket, type StreamEvents } from '@cyberun/link'
import { expect, test } from 'vitest'
import type { Routing } from '../../src/routing/routing.ts'
import type { KeptPiece } from '../../src/tunnels/edge/answer-writer.ts'
import { Upstream, type UpstreamUser } from '../../src/tunnels/edge/upstream.ts'
import { UpstreamPool } from '../../src/tunnels/edge/upstream-pool.ts'
import { newTunnel } from './bed.ts'

/** Streams whose other end is the test; what is written to them is lost. */
function routingByHand(): { routing: Routing; opened: StreamEvents[] } {
  const opened: StreamEvents[] = []
  const nothing = (): void => {}
  const open = async (init: LinkStream['init'], events: StreamEvents | undefined): Promise<LinkStream> => {
    if (events) opened.push(events)
    return {
      ...{ id: opened.length, init, accepted: Promise.resolve(), queuedBytes: 0 },
      ...{ listen: nothing, accept: nothing, end: nothing, reset: nothing, write: () => true, pass: () => true },
    }
  }
  return { routing: { pathTo: () => ({ open }) }, opened }
}

/** One whose visitor takes nothing: it keeps what it is told of, for that visitor's socket. */
function slowUser(upstream: Upstream, socket: PumpSocket): UpstreamUser & { kept: KeptPiece[] } {
  const kept: KeptPiece[] = []
  const nothing = (): void => {}
  return {
    kept,
    onBody: (bytes) => void kept.push(upstream.keep(bytes, socket)),
    ...{ onInterim: nothing, onHead: nothing, onComplete: nothing, onPushed: nothing, onDrain: nothing },
    ...{ onSwitched: nothing, onLost: nothing, onBug: nothing },
  }
}

test('a connection whose last answer waits for its visitor is given to nobody until that has it, or is cut off', async () => {
  const { routing, opened } = routingByHand()
  const pool = new UpstreamPool(newTunnel(), routing)
  const socket = new Socket()
  const carry = async (answer: string) => {
    const upstream = await pool.open(new AbortController().signal)
    if (!(upstream instanceof Upstream)) throw new Error(upstream.message)
    const user = slowUser(upstream, PumpSocket.from(socket))
    upstream.begin(user, { toHead: false, toUpgrade: false })
    const bytes = Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${answer.length}\r\n\r\n${answer}`)
    opened.at(-1)?.onData({ bytes, headroom: 0, hold: () => () => {} })
    expect(upstream.reusable).toBe(true)
    pool.give(upstream, 0)
    return { upstream, kept: user.kept }
  }
  const free = await carry('')
  const heldUp = await carry('an answer')
  expect(pool.take(0, 1_000)).toBe(free.upstream)
  expect(pool.take(0, 1_000)).toBeUndefined()
  free.upstream.onReclaim()
  expect(socket.destroyed).toBe(false)
  heldUp.upstream.onReclaim()
  expect(socket.destroyed, 'what the link needs waits in it').toBe(true)
  for (const { release } of heldUp.kept) release()
  expect(pool.take(0, 1_000)).toBe(heldUp.upstream)
  expect(pool.take(0, 1_000)).toBeUndefined()
})
