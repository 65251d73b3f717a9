import { setTimeout as pause } from 'node:timers/promises'
import type { OpenedTunnel } from '@cyberun/api'
import { type Client, ClientError } from '@cyberun/api/client'
import type { Context } from '../context.ts'
import { LiveLines } from './live-lines.ts'
import { type Reading, tunnelScreen } from './screen.ts'

/** How often the server is asked. Who comes is seen within this time and an answer's. */
const POLL_MS = 1_000

export interface WatchOptions {
  context: Context
  client: Client
  agentId: string
  sessionId: string
  /** Tells of the addresses that replace the old ones. */
  announce(opened: OpenedTunnel): void
  interrupted: AbortSignal
}

/** How watching ended: the person left, ended the tunnel, or it ended by itself. */
export type WatchEnd = 'left' | 'ended' | 'gone'

/** Shows an open tunnel on the terminal until the person leaves it or it ends. Takes the keyboard while it runs. */
export async function watchTunnel(options: WatchOptions): Promise<WatchEnd> {
  const { context, client, agentId, sessionId } = options
  const lines = new LiveLines(context.stdout)
  const keys = readKeys(context, options.interrupted)
  const params = { agentId, sessionId }
  let note = ''
  let before: Reading | undefined
  try {
    for (;;) {
      try {
        const { session_list } = await client.call('GET /agents/{agentId}/tunnel', { params: { agentId } })
        const view = session_list.find(({ session_id }) => session_id === sessionId)
        if (!view) return 'gone'
        const now = context.now()
        lines.show(tunnelScreen(view, before, now, note))
        before = { at: now, bytesIn: view.bytes_in, bytesOut: view.bytes_out }
        note = ''
        const key = await keys.next(POLL_MS)
        if (key === 'leave') return 'left'
        if (key === 'extend') {
          const { idle_timeout_s } = await client.call('PATCH /agents/{agentId}/tunnel/{sessionId}', {
            params,
            body: { extend: true },
          })
          note = `extended: it stays for ${Math.round(idle_timeout_s / 60)} minutes from now without use`
        } else if (key === 'revoke') {
          const opened = await client.call('POST /agents/{agentId}/tunnel/{sessionId}/revoke', { params })
          lines.clear()
          options.announce(opened)
          note = 'revoked: who had the old addresses was cut off'
        } else if (key === 'end') {
          await client.call('DELETE /agents/{agentId}/tunnel', {
            params: { agentId },
            query: { session_id: sessionId },
          })
          return 'ended'
        }
      } catch (error) {
        // Whatever happens to the server, the tunnel goes on: it is asked again, unless it says that there is none.
        if (error instanceof ClientError && error.code === 'not_found') return 'gone'
        if (!(error instanceof ClientError)) throw error
        note = `${error.message} (trying again)`
        lines.show([note])
        if ((await keys.next(POLL_MS)) === 'leave') return 'left'
      }
    }
  } finally {
    keys.stop()
    lines.clear()
  }
}

type Key = 'extend' | 'revoke' | 'leave' | 'end'

const KEYS: Readonly<Record<string, Key>> = {
  e: 'extend',
  r: 'revoke',
  q: 'leave',
  '\x03': 'leave',
  '\x04': 'leave',
  x: 'end',
}

/** Reads single keys; a signal to stop is one, too. At most one is remembered: the last. */
function readKeys(
  { stdin }: Context,
  interrupted: AbortSignal,
): { next(ms: number): Promise<Key | undefined>; stop(): void } {
  let pressed: Key | undefined
  let wake = new AbortController()
  const press = (key: Key | undefined): void => {
    if (key === undefined) return
    pressed = key
    wake.abort()
  }
  const onData = (bytes: Buffer): void => {
    for (const character of bytes.toString('latin1')) press(KEYS[character])
  }
  const onInterrupted = (): void => press('leave')
  if (stdin.isTTY) stdin.setRawMode(true)
  stdin.on('data', onData)
  interrupted.addEventListener('abort', onInterrupted, { once: true })
  return {
    async next(ms) {
      await pause(ms, undefined, { signal: wake.signal }).catch(() => {}) // woken by a key
      const key = pressed
      pressed = undefined
      wake = new AbortController()
      return key
    },
    stop() {
      stdin.off('data', onData)
      interrupted.removeEventListener('abort', onInterrupted)
      if (stdin.isTTY) stdin.setRawMode(false)
      stdin.pause()
    },
  }
}
