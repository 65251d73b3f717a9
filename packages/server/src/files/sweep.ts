import { forgetExpiredFiles, knownObjectKeys } from '../store/files.ts'
import type { FileContext } from './context.ts'

export const SWEEP_MS = 60_000
const PAGE_FILES = 500
/**
 * An object without a row, or bytes of a write that nobody goes on with, may still be in the hands of a transfer; after
 * this time without a new byte they are not.
 */
export const LEFT_BEHIND_MS = 60 * 60_000
/** Looking through every object is worth it seldom: only a killed process leaves one behind. */
const ORPHANS_MS = 30 * 60_000

/** What one round removed. */
export interface Swept {
  expired: number
  orphans: number
  staged: number
}

/** Forgets files past their retention: the rows first, so that no row ever names an object that is gone. */
async function sweepExpired({ store, objects, limits, now, reach }: FileContext): Promise<number> {
  for (let expired = 0; ; ) {
    const at = now()
    const artifactsBefore = at - limits.outputRetentionMs
    const objectKeys = await forgetExpiredFiles(store, { now: at, artifactsBefore, limit: PAGE_FILES })
    if (objectKeys.length > 0) reach('sweep.rows_forgotten')
    for (const key of objectKeys) {
      await objects.delete(key)
      reach('sweep.object_deleted')
    }
    expired += objectKeys.length
    if (objectKeys.length < PAGE_FILES) return expired
  }
}

async function sweepOrphans({ store, objects, reach }: FileContext, before: number): Promise<number> {
  let orphans = 0
  for await (const page of objects.list()) {
    const old = page.filter((object) => object.modifiedAt < before).map((object) => object.key)
    const known = await knownObjectKeys(store, old)
    for (const key of old.filter((key) => !known.has(key))) {
      reach('sweep.orphan_found')
      await objects.delete(key)
      reach('sweep.orphan_deleted')
      orphans++
    }
  }
  return orphans
}

/** One whole round. `before`: what was last touched earlier and belongs to no row is left behind. */
export async function sweepFiles(context: FileContext, before: number): Promise<Swept> {
  const expired = await sweepExpired(context)
  const orphans = await sweepOrphans(context, before)
  const staged = await context.objects.deleteStaged(before)
  if (staged > 0) context.reach('sweep.staged_deleted')
  return { expired, orphans, staged }
}

/** Sweeps from time to time. The returned function stops that, once what runs now has ended. */
export function startFileSweep(context: FileContext): () => Promise<void> {
  const { log, now } = context
  let orphansAt = Number.NEGATIVE_INFINITY
  let running: Promise<void> | undefined

  async function round(): Promise<void> {
    const at = now()
    try {
      if (at - orphansAt < ORPHANS_MS) {
        await sweepExpired(context)
        return
      }
      orphansAt = at
      const swept = await sweepFiles(context, at - LEFT_BEHIND_MS)
      if (swept.orphans + swept.staged > 0) log.info({ ...swept }, 'files.swept')
    } catch (error) {
      log.warn({ error }, 'files.sweep_failed')
    }
  }

  const start = () => {
    running ??= round().finally(() => {
      running = undefined
    })
  }
  const timer = setInterval(start, SWEEP_MS)
  start()
  return async () => {
    clearInterval(timer)
    await running
  }
}
