import { agentHello, retryWait, temporaryMachineKey } from '@cyberun/agent'
import { DialError, dialLink } from '@cyberun/link'
import { answerParent } from '../child.ts'
import { settledBytes } from './resources.ts'

/**
 * Thousands of agents in one process: each has a real link with the hello and the reconnection of an agent, and
 * refuses every stream.
 */
export interface HerdVerbs {
  /** Resolves when `count` agents named `<prefix>-<n>` are linked. From then on each comes back when its link is lost. */
  dial(order: { gatewayUrl: string; agentKey: string; prefix: string; count: number }): Promise<void>
  /** How many have a link now. */
  linked(nothing: null): number
  settledBytes(nothing: null): Promise<number>
}

const DIALS_AT_ONCE = 50
const NO_STATS = { comfyui_version: null, pytorch_version: null, os_type: 'linux', gpu_devices: [] }

/** One machine may run agents of several names, as one process here stands for many. */
const machine = temporaryMachineKey()
let linkedCount = 0

/** One agent for as long as the process lives. Calls `onFirstLink` once. */
async function keepLinked(url: URL, agentKey: string, agentId: string, onFirstLink: () => void): Promise<never> {
  const facts = { agentId, labels: [], systemStats: NO_STATS }
  let downSince = performance.now()
  for (let attempt = 0; ; attempt++) {
    try {
      const link = await dialLink({
        url,
        headers: { authorization: `Bearer ${agentKey}` },
        hello: (challenge) => agentHello(machine, facts, challenge),
        onStream: (stream) => {
          stream.reset('unsupported')
          return { onData() {}, onEnd() {}, onReset() {}, onDrain() {} }
        },
      })
      linkedCount++
      onFirstLink()
      await link.closed
      linkedCount--
      attempt = 0
      downSince = performance.now()
    } catch (error) {
      if (!(error instanceof DialError)) throw error
      const { failure } = error
      const answered = failure.kind === 'http'
      const retryAfterMs = failure.kind === 'http' ? failure.retryAfterMs : undefined
      const downForMs = performance.now() - downSince
      const waitMs = retryWait({ attempt, answered, downForMs, retryAfterMs }, Math.random())
      await new Promise((resolve) => setTimeout(resolve, waitMs))
    }
  }
}

answerParent<HerdVerbs>({
  async dial({ gatewayUrl, agentKey, prefix, count }) {
    let next = 0
    const dialInTurn = async () => {
      while (next < count) {
        const agentId = `${prefix}-${next++}`
        await new Promise<void>((resolve, reject) => {
          keepLinked(new URL(gatewayUrl), agentKey, agentId, resolve).catch(reject)
        })
      }
    }
    await Promise.all(Array.from({ length: DIALS_AT_ONCE }, dialInTurn))
  },
  linked: () => linkedCount,
  settledBytes,
})
