/** Says why this server should get no work now, for an operator to read; undefined when it should. */
export type Readiness = () => Promise<string | undefined>

/** How long a check may take before it counts as failed. */
const CHECK_TIMEOUT_MS = 2_000

/** The process runs and answers: nothing more is asked, so that a slow database gets no process killed. */
export function healthAnswer(): Response {
  return Response.json({ status: 'ok' })
}

/** 200 when this server should be sent work, else 503 with the reason. Never throws. */
export async function readinessAnswer(readiness: Readiness): Promise<Response> {
  const { promise: late, resolve: giveUp } = Promise.withResolvers<string>()
  const timer = setTimeout(giveUp, CHECK_TIMEOUT_MS, `no answer within ${CHECK_TIMEOUT_MS} ms`)
  try {
    const reason = await Promise.race([readiness(), late])
    if (reason === undefined) return Response.json({ status: 'ready' })
    return Response.json({ status: 'not_ready', reason }, { status: 503 })
  } catch {
    // The log has the story; whoever asks here may be a stranger.
    return Response.json({ status: 'not_ready', reason: 'a check failed' }, { status: 503 })
  } finally {
    clearTimeout(timer)
  }
}
