import type { Readable, Writable } from 'node:stream'
import type { ByteEnd } from '@cyberun/link'

type Events = Parameters<ByteEnd['listen']>[0]

/** Standard input is not read while more than this was delivered and not taken. */
const HIGH_WATER_BYTES = 256 * 1024

/** Standard input and output as one end of a relay. A broken pipe on either is a reset. */
export function stdioEnd(stdin: Readable, stdout: Writable): ByteEnd {
  let events: Events | undefined
  let held = 0
  let state: 'open' | 'over' = 'open'
  const open = { in: true, out: true }

  const finish = (): void => {
    if (state === 'over') return
    state = 'over'
    stdin.destroy()
    events?.onClose?.()
  }
  const closeHalf = (half: 'in' | 'out'): void => {
    open[half] = false
    if (!open.in && !open.out) finish()
  }
  const fail = (): void => {
    if (state === 'over') return
    events?.onReset('target_reset')
    finish()
  }
  const hold = (bytes: number) => () => {
    held += bytes
    if (held >= HIGH_WATER_BYTES) stdin.pause()
    return () => {
      held -= bytes
      if (held < HIGH_WATER_BYTES && state === 'open') stdin.resume()
    }
  }
  return {
    listen(listener) {
      events = listener
      stdin.on('data', (bytes: Uint8Array) => listener.onData({ bytes, headroom: 0, hold: hold(bytes.length) }))
      stdin.on('end', () => {
        listener.onEnd()
        closeHalf('in')
      })
      stdin.on('error', fail)
      stdout.on('error', fail)
      stdout.on('drain', () => listener.onDrain())
    },
    write: (bytes, onWritten) => stdout.write(bytes, () => onWritten?.()),
    end: () => stdout.end(() => closeHalf('out')),
    reset: finish,
  }
}
