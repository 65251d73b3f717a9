import type { Log } from '@cyberun/link/log'
import { LRUCache } from 'lru-cache'
import type { Bus } from '../bus.ts'
import { liveCredentials } from '../store/agents.ts'
import type { Store } from '../store/store.ts'

/** Notices when keys in use, or whole teams, come to their end. */
export interface KeyWatch {
  /** Whether it ended so lately that a handshake under way may have passed its check before. */
  endedLately(teamId: string, credentialId: string): boolean
  stop(): void
}

/** Longer than any handshake. */
const LATELY_MS = 60_000
const MOST_REMEMBERED = 10_000
const IDS_AT_ONCE = 500

export function createKeyWatch(options: {
  bus: Bus
  store: Store
  log: Log
  now(): number
  sweepMs: number
  credentialsInUse(): ReadonlySet<string>
  onCredentialEnded(credentialId: string): void
  onTeamEnded(teamId: string): void
}): KeyWatch {
  const lately = new LRUCache<string, true>({ max: MOST_REMEMBERED, ttl: LATELY_MS })
  const unsubscribe = [
    options.bus.subscribe('credential.revoked', ({ credentialId }) => {
      lately.set(credentialId, true)
      options.onCredentialEnded(credentialId)
    }),
    options.bus.subscribe('team.deleted', ({ teamId }) => {
      lately.set(teamId, true)
      options.onTeamEnded(teamId)
    }),
  ]

  /** The bus may lose a message; the store is the truth. */
  async function sweep(): Promise<void> {
    const used = [...options.credentialsInUse()]
    for (let from = 0; from < used.length; from += IDS_AT_ONCE) {
      const asked = used.slice(from, from + IDS_AT_ONCE)
      const live = await liveCredentials(options.store, asked, options.now())
      for (const id of asked) if (!live.has(id)) options.onCredentialEnded(id)
    }
  }

  let sweeping = false
  const timer = setInterval(() => {
    if (sweeping) return
    sweeping = true
    sweep()
      .catch((error: unknown) => options.log.warn({ error }, 'agents.sweep_failed'))
      .finally(() => {
        sweeping = false
      })
  }, options.sweepMs)

  return {
    endedLately: (teamId, credentialId) => lately.has(teamId) || lately.has(credentialId),
    stop() {
      clearInterval(timer)
      for (const end of unsubscribe) end()
    },
  }
}
