import { fork } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'

/** What a child process answers: named verbs, one JSON value in, one JSON value out. */
export type Verbs<V> = { [K in keyof V]: (argument: never) => unknown }

/** A Node process of ours that does one thing beside others, so that what it costs can be told from what they cost. */
export interface Child<V extends Verbs<V>> extends AsyncDisposable {
  readonly pid: number
  /** Resolves when the process has ended, however. */
  readonly ended: Promise<void>
  /** Rejects with the child's error message, or when the child exits before it answers. */
  call<K extends keyof V & string>(verb: K, argument: Parameters<V[K]>[0]): Promise<Awaited<ReturnType<V[K]>>>
}

interface Question {
  id: number
  verb: string
  argument: unknown
}
type Answer = { id: number; value: unknown } | { id: number; error: string }

export interface ChildOptions {
  env?: Record<string, string>
  nodeOptions?: string[]
  /** A file that gets the child's standard output and error; both are dropped without it, save errors on stderr. */
  outputFile?: string
}

/** Starts `script` (a TypeScript file that calls `answerParent`). */
export function startChild<V extends Verbs<V>>(script: URL, options: ChildOptions = {}): Child<V> {
  const output = options.outputFile === undefined ? undefined : openSync(options.outputFile, 'a')
  const child = fork(script, [], {
    execArgv: options.nodeOptions ?? [],
    env: { ...process.env, ...options.env },
    stdio: ['ignore', output ?? 'ignore', output ?? 'inherit', 'ipc'],
  })
  const ended = once(child, 'exit').then(() => {})
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()
  let lastId = 0

  child.on('message', (answer: Answer) => {
    const asker = waiting.get(answer.id)
    waiting.delete(answer.id)
    if ('error' in answer) asker?.reject(new Error(answer.error))
    else asker?.resolve(answer.value)
  })
  child.on('exit', (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`${script.pathname} ended (${signal ?? code})`))
    waiting.clear()
  })

  return {
    get pid() {
      if (child.pid === undefined) throw new Error(`${script.pathname} did not start`)
      return child.pid
    },
    ended,
    call<K extends keyof V & string>(verb: K, argument: Parameters<V[K]>[0]) {
      const id = ++lastId
      return new Promise<Awaited<ReturnType<V[K]>>>((resolve, reject) => {
        // The answer comes from `answerParent` with the same verbs, so its type is known though JSON carried it.
        waiting.set(id, { resolve: resolve as (value: unknown) => void, reject })
        const question: Question = { id, verb, argument }
        child.send(question, (error) => {
          if (error !== null) reject(error)
        })
      })
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await ended
    },
  }
}

/** The child's side: answers questions until the parent goes away, which ends the process. */
export function answerParent<V extends Verbs<V>>(verbs: V): void {
  process.on('message', async (question: Question) => {
    const verb: ((argument: never) => unknown) | undefined = verbs[question.verb as keyof V]
    const answer = async (): Promise<Answer> => {
      if (verb === undefined) return { id: question.id, error: `no verb ${question.verb}` }
      return { id: question.id, value: await verb(question.argument as never) }
    }
    process.send?.(await answer().catch((error: unknown): Answer => ({ id: question.id, error: String(error) })))
  })
  process.on('disconnect', () => process.exit())
}
