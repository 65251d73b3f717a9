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

  const timer = setInterval(() => {
    running ??= sweep()
      // The next round starts where this one failed.
      .catch((error: unknown) => log.warn({ error }, 'identity.sweep_failed'))
      .finally(() => {
        running = undefined
      })
  }, EXPIRY_MS)
  return async () => {
    clearInterval(timer)
    await running
  }
}
