/** Resolves when `work` does, or after `limitMs` milliseconds; rejects when `work` does before that. */
export async function inTime(work: Promise<unknown>, limitMs: number): Promise<void> {
  const late = Promise.withResolvers<void>()
  const timer = setTimeout(late.resolve, limitMs)
  try {
    await Promise.race([work, late.promise])
  } finally {
    clearTimeout(timer)
  }
}
