import { expiredCredentialIds } from '../store/credentials.ts'
import { deleteExpiredInvitations } from '../store/invitations.ts'
import { deleteExpiredSignIns } from '../store/sign-ins.ts'
import type { AccessTokens } from './access-tokens.ts'
import { type Context, publishEnded } from './context.ts'

/** Live sockets of a key end within 1 s of its expiry. */
const EXPIRY_MS = 500
const CLEANUP_MS = 10 * 60_000

/**
 * Ends what a key holds open when its time is up, and forgets what nobody can use any more. The returned function stops
 * that, once what runs now has ended.
 */
export function startSweep(context: Context, tokens: AccessTokens): () => Promise<void> {
  const { store, log, now } = context
  let announcedUntil = now()
  let cleanedAt = now()
  let running: Promise<void> | undefined

  async function sweep(): Promise<void> {
    const until = now()
    publishEnded(context, await expiredCredentialIds(store, announcedUntil, until))
    announcedUntil = until
    if (until - cleanedAt < CLEANUP_MS) return
    cleanedAt = until
    await deleteExpiredSignIns(store, until)
    await deleteExpiredInvitations(store, until)
    await tokens.maintain()
  }

  /** An outage is one line when it begins and one when it ends; the next round starts where the last good one ended. */
  let failing = false
  async function round(): Promise<void> {
    try {
      await sweep()
      if (failing) log.info('identity.sweep_works_again')
      failing = false
    } catch (error) {
      if (!failing) log.warn({ error }, 'identity.sweep_failed')
      failing = true
    }
  }

  const timer = setInterval(() => {
    running ??= round().finally(() => {
      running = undefined
    })
  }, EXPIRY_MS)
  return async () => {
    clearInterval(timer)
    await running
  }
}
