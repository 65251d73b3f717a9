import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { until } from '../../../testkit/src/until.ts'

export const BINARY = fileURLToPath(new URL('../../bin/cyberun.mjs', import.meta.url))

/** What a command was given besides its words. Nothing of the developer's own settings reaches it. */
export interface Place {
  cwd: string
  env?: Record<string, string>
}

/** A command that is running, with what it printed so far. */
export interface Started extends AsyncDisposable {
  readonly child: ChildProcess
  readonly stdout: () => string
  readonly stderr: () => string
  /** Resolves with the first line of stdout that matches; rejects when the command ends without. */
  line(pattern: RegExp): Promise<RegExpMatchArray>
  /** Sends a signal and resolves with the exit code, or the name of the signal that ended it. */
  stop(signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null>
  readonly ended: Promise<number | NodeJS.Signals | null>
}

/** Starts the real program as a person's shell would. */
export function start(args: readonly string[], { cwd, env }: Place, runtime = process.execPath): Started {
  const child = spawn(runtime, [BINARY, ...args], {
    cwd,
    env: { PATH: process.env['PATH'], HOME: cwd, ...FREE_PORTS, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const stdout = collect(child, 'stdout')
  const stderr = collect(child, 'stderr')
  const ended = once(child, 'close').then(([code, signal]) => code ?? signal)
  const stop = (signal: NodeJS.Signals) => {
    child.kill(signal)
    return ended
  }
  return {
    child,
    stdout,
    stderr,
    ended,
    line(pattern) {
      return new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(stdout())
          if (match) resolve(match)
        }
        child.stdout?.on('data', look)
        look()
        void ended.then((how) =>
          reject(new Error(`${args.join(' ')} ended (${how}) without ${pattern}:\n${stdout()}${stderr()}`)),
        )
      })
    },
    stop,
    async [Symbol.asyncDispose]() {
      await stop('SIGINT')
    },
  }
}

/** Runs a command to its end. */
export async function execute(args: readonly string[], place: Place, stdin = '') {
  const started = start(args, place)
  started.child.stdin?.end(stdin)
  const code = await started.ended
  return { code, stdout: started.stdout(), stderr: started.stderr() }
}

/** What a banner says of the agent of `cyberun up`, as a pattern: it does not wait for long until that is linked. */
export const BANNER_STATUS = '(idle|connecting)'

/** Waits until that agent, and no other, takes work. */
export async function untilLinked(place: Place): Promise<void> {
  await until(async () => {
    const { agent_list } = JSON.parse((await execute(['agents', '--json'], place)).stdout)
    return agent_list.length === 1 && agent_list[0].agent_status === 'idle'
  })
}

const FREE_PORTS = { CYBERUN_CONTROL_PORT: '0', CYBERUN_EDGE_PORT: '0', CYBERUN_METRICS_PORT: '0' }

function collect(child: ChildProcess, name: 'stdout' | 'stderr'): () => string {
  const pieces: Buffer[] = []
  child[name]?.on('data', (bytes: Buffer) => pieces.push(bytes))
  return () => Buffer.concat(pieces).toString()
}
