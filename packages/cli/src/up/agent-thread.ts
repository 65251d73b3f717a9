import { parentPort, workerData } from 'node:worker_threads'
import { type AgentExit, type AgentSettings, type AgentState, parseAgentConfig, runAgent } from '@cyberun/agent'
import { createLog, type LogOptions } from '@cyberun/link/log'

/** What the thread is started with. */
export interface AgentJob {
  settings: AgentSettings
  log: Pick<LogOptions, 'level' | 'format'>
  /** The server's own ports: a tunnel to them would be a loop. */
  refusedPorts: readonly number[]
}

/** What it tells the thread that started it; there, `'stop'` is the one thing to say. */
export type FromAgent = { type: 'state'; state: AgentState } | { type: 'end'; exit: AgentExit }

if (parentPort !== null) {
  const { settings, log, refusedPorts } = workerData as AgentJob
  const port = parentPort
  const stop = new AbortController()
  port.once('message', () => stop.abort())
  const tell = (message: FromAgent) => port.postMessage(message)
  const exit = await runAgent(parseAgentConfig(settings, {}), {
    log: createLog(log),
    signal: stop.signal,
    refusedPorts,
    onState: (state) => tell({ type: 'state', state }),
  })
  tell({ type: 'end', exit })
}
