/**
 * How long a fresh dial is given before it is replaced by the next; the longer the silence, the longer. At first just
 * below a second, so that most agents are back within one, which leaves time for round trips of 170 ms.
 */
const FRESH_DIAL_MS = [1_000, 700, 700, 700, 700, 700, 2_000, 4_000] as const
const LAST_FRESH_DIAL_MS = 8_000

type Dial<T> = (signal: AbortSignal) => Promise<T>

/**
 * Dials while the network may swallow packets. A connection begun during an outage often stays deaf after it (its
 * packets are repeated ever more rarely), so beside one patient dial there is a second one, begun afresh again and again.
 * The first to succeed wins; the other is aborted, and given to `discard` if it succeeded all the same.
 * Rejects when the patient one fails.
 *
 * Only for silence: a server that refuses or is slow is not dialled twice.
 */
export function dialThroughSilence<T>(dial: Dial<T>, discard: (late: T) => void, signal: AbortSignal): Promise<T> {
  const patient = new AbortController()
  const fresh = new AbortController()
  return new Promise((resolve, reject) => {
    let isOver = false
    const take = (value: T, other: AbortController): void => {
      if (isOver) {
        discard(value)
        return
      }
      isOver = true
      other.abort()
      resolve(value)
    }
    dial(AbortSignal.any([signal, patient.signal])).then(
      (value) => take(value, fresh),
      (error: unknown) => {
        if (isOver) return
        isOver = true
        fresh.abort()
        reject(error)
      },
    )
    void dialAfresh(dial, (value) => take(value, patient), AbortSignal.any([signal, fresh.signal]))
  })
}

/** Never rejects: how a fresh dial fails says nothing that the patient one will not say. */
async function dialAfresh<T>(dial: Dial<T>, take: (value: T) => void, stop: AbortSignal): Promise<void> {
  for (let round = 0; !stop.aborted; round++) {
    const roundOver = new AbortController()
    const timer = setTimeout(() => roundOver.abort(), FRESH_DIAL_MS[round] ?? LAST_FRESH_DIAL_MS)
    const over = AbortSignal.any([stop, roundOver.signal])
    // The first second belongs to the patient dial alone.
    const value = round === 0 ? undefined : await dial(over).catch(() => undefined)
    if (value === undefined) await aborted(over)
    clearTimeout(timer)
    if (value !== undefined) return take(value)
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
