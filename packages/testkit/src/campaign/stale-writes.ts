import { encodeLine, type Link, lineEvents } from '@cyberun/link'
import { type AgentTaskLine, type AttemptName, parseServerTaskLine, TASK_LIMITS } from '@cyberun/protocol'

/** What a stale write would leave behind: the checker finds it wherever it got in. */
const STALE_OUTPUT = { text: 'written by a stale attempt' }
const ANSWER_MS = 10_000

/**
 * Says, as the agent at the other end of this link, that attempts it no longer has have finished: takes each up again and
 * completes it. Resolves with how many the server refused.
 */
export async function writeStale(link: Link, attempts: readonly AttemptName[]): Promise<number> {
  const answers = await Promise.all(attempts.map((attempt) => isRefused(link, attempt)))
  return answers.filter((refused) => refused).length
}

function isRefused(link: Link, { task_id, fence }: AttemptName): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const deadline = setTimeout(() => resolve(false), ANSWER_MS)
  const events = lineEvents(
    {
      onLine(text) {
        const line = parseServerTaskLine(text)
        if (line?.type === 'late') resolve(true)
        if (line?.type !== 'attached') return
        // It was let in: what that comes to is for the checker to find.
        say({ type: 'finished', sequence: line.acknowledged + 1, outcome: { kind: 'completed', output: STALE_OUTPUT } })
        resolve(false)
      },
      onOverlong: () => resolve(false),
      onOver: () => resolve(false),
    },
    TASK_LIMITS.serverLineBytes,
  )
  const stream = link.open({ target: { kind: 'task' }, priority: 'control' }, events)
  const say = (line: AgentTaskLine): void => void stream.write(encodeLine(line))
  say({ type: 'attach', task_id, fence, tool_type: 'demo', last_sequence: 1, state: 'finished' })
  return promise.finally(() => {
    clearTimeout(deadline)
    stream.end()
  })
}
