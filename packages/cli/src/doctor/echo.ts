import type { Link, LinkStream } from '@cyberun/link'
import { Finding } from './steps.ts'

const PIECE = new Uint8Array(64 * 1024)
const ROUNDS = 20
/** How long bytes are sent to see how many come back: short, as all checks together must end within ten seconds. */
const RATE_MS = 1_500
/** More says nothing new, and could be somebody's metered line. */
const RATE_BYTES = 64 * 1024 * 1024

/** The median time of one byte there and back, in milliseconds. Throws a `Finding` when nothing comes back. */
export async function measureRoundTrip(link: Link, signal: AbortSignal): Promise<number> {
  using echo = openEcho(link)
  const times: number[] = []
  for (let round = 1; round <= ROUNDS; round++) {
    const from = performance.now()
    echo.stream.write(PIECE.subarray(0, 1))
    await echo.until(() => echo.received >= round, signal)
    times.push(performance.now() - from)
  }
  return times.toSorted((a, b) => a - b)[ROUNDS / 2] ?? 0
}

/** Bytes a second there and back. Throws a `Finding` when nothing comes back. */
export async function measureRate(link: Link, signal: AbortSignal): Promise<number> {
  using echo = openEcho(link)
  const from = performance.now()
  const isOver = () => performance.now() - from > RATE_MS || echo.received >= RATE_BYTES
  let sent = 0
  echo.onRoom(() => {
    while (!isOver() && sent < RATE_BYTES) {
      sent += PIECE.length
      if (!echo.stream.write(PIECE)) return
    }
  })
  await echo.until(() => echo.received > 0 && isOver(), signal)
  return (echo.received * 1000) / (performance.now() - from)
}

interface Echo extends Disposable {
  readonly stream: LinkStream
  /** Bytes that came back. */
  readonly received: number
  /**
   * Resolves when `holds`, which is asked whenever bytes arrive or may be sent, and when `signal` aborts; rejects with a
   * `Finding` when it does not hold then, or when the stream ends first.
   */
  until(holds: () => boolean, signal: AbortSignal): Promise<void>
  /** Calls `write` now, and again whenever the stream can take more. */
  onRoom(write: () => void): void
}

function openEcho(link: Link): Echo {
  let received = 0
  let onProgress = () => {}
  let onLost = (_why: Finding) => {}
  let write = () => {}
  const lost = () =>
    onLost(new Finding('the link broke while it was measured', 'try again; a proxy may cut connections'))
  const stream = link.open(
    { target: { kind: 'echo' }, priority: 'bulk' },
    {
      onData(chunk) {
        received += chunk.bytes.length
        onProgress()
      },
      onEnd: lost,
      onReset: lost,
      onDrain() {
        write()
        // All may be back already, and nothing more was sent.
        onProgress()
      },
    },
  )
  // A refusal is heard through onReset as well.
  stream.accepted.catch(() => {})
  return {
    stream,
    get received() {
      return received
    },
    until(holds, signal) {
      return new Promise((resolve, reject) => {
        onLost = reject
        onProgress = () => holds() && resolve()
        signal.addEventListener('abort', () => (holds() ? resolve() : reject(tooSlow())), { once: true })
        onProgress()
      })
    },
    onRoom(next) {
      write = next
      write()
    },
    [Symbol.dispose]: () => stream.reset('cancelled'),
  }
}

function tooSlow(): Finding {
  const remedy =
    'the link is up but carries next to nothing: look for a congested network or a proxy that holds bytes back'
  return new Finding('nothing comes back over the link', remedy)
}
