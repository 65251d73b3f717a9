import { EXIT_CODES } from './exit-codes.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** npm passes a terminal's Ctrl-C on to a program that has received it already: this soon after, it is the same one. */
const SAME_MS = 300

/** Aborts at the first Ctrl-C or signal to stop; a second one ends the process at once. */
export function onInterrupt(): AbortSignal {
  const controller = new AbortController()
  let firstAt: number | undefined
  const stop = () => {
    firstAt ??= performance.now()
    if (controller.signal.aborted && performance.now() - firstAt > SAME_MS) process.exit(EXIT_CODES.interrupted[0])
    controller.abort()
  }
  for (const signal of SIGNALS) process.on(signal, stop)
  return controller.signal
}

/** Resolves when `signal` aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
