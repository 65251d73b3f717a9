import { Worker } from 'node:worker_threads'
import type { AgentExit } from '@cyberun/agent'
import type { AgentJob, FromAgent } from './agent-thread.ts'

export interface LocalAgent {
  /** Resolves when it is linked for the first time, when it gave up, or when `signal` aborts. */
  settled(signal: AbortSignal): Promise<'linked' | 'stopped' | 'connecting'>
  /** Resolves when its thread is over. Stopping twice is harmless. */
  stop(): Promise<void>
}

/**
 * Runs an agent in a thread of its own, so that neither waits for the other's work (docs/decisions/0006). `onEnd` hears
 * when it gave up for good.
 */
export function startLocalAgent(job: AgentJob, onEnd: (message: string) => void): LocalAgent {
  const worker = new Worker(new URL('./agent-thread.ts', import.meta.url), { workerData: job })
  const over = Promise.withResolvers<void>()
  const settled = Promise.withResolvers<'linked' | 'stopped' | 'connecting'>()
  let stopping = false

  const end = (message: string | undefined) => {
    settled.resolve('stopped')
    over.resolve()
    if (message !== undefined && !stopping) onEnd(message)
  }
  worker.on('message', (message: FromAgent) => {
    if (message.type === 'state') {
      if (message.state.kind === 'linked') settled.resolve('linked')
    } else end(messageOf(message.exit))
  })
  worker.on('error', (error) => end(error instanceof Error ? error.message : String(error)))
  worker.on('exit', () => end(undefined))

  return {
    settled(signal) {
      const giveUp = () => settled.resolve('connecting')
      if (signal.aborted) giveUp()
      else signal.addEventListener('abort', giveUp, { once: true })
      return settled.promise
    },
    async stop() {
      stopping = true
      worker.postMessage('stop')
      await over.promise
    },
  }
}

function messageOf(exit: AgentExit): string | undefined {
  return exit.kind === 'stopped' ? undefined : exit.message
}
