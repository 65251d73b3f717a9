import { createHook } from 'node:async_hooks'

/** What must not outlive the part that made it. Timers count even when they are unref'd. */
const WATCHED = new Set(['Timeout', 'TCPWRAP', 'TCPSERVERWRAP', 'TLSWRAP', 'PIPEWRAP', 'FILEHANDLE'])

/** Timers of the test runner are none of our business; sockets that were accepted have no frame of ours to go by. */
const TIMER = 'Timeout'
const OURS = /\/packages\/\w+\/src\/(?!leaks\.ts)/

export interface LeakWatch extends Disposable {
  /** Sockets, servers and timers made since the watch began that are still there, each with where it was made. */
  leftovers(): string[]
}

/**
 * Watches every socket, server and timer that is made from now on. A test ends its world and then waits for
 * `leftovers()` to be empty.
 */
export function watchLeaks(): LeakWatch {
  const live = new Map<number, string>()
  const hook = createHook({
    trackPromises: false,
    init(id, type) {
      if (!WATCHED.has(type)) return
      const made = new Error(type).stack ?? type
      if (type !== TIMER || OURS.test(made)) live.set(id, made)
    },
    destroy(id) {
      live.delete(id)
    },
  }).enable()
  return {
    leftovers: () => [...live.values()].map(shortStack),
    [Symbol.dispose]: () => void hook.disable(),
  }
}

/** The kind of resource, and the frames of ours that led to it. */
function shortStack(stack: string): string {
  const [kind = '', ...frames] = stack.split('\n')
  const ours = frames.filter((frame) => OURS.test(frame)).map((frame) => frame.trim())
  return [kind.replace('Error: ', ''), ...ours.slice(0, 4)].join('\n    ')
}
