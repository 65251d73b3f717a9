import { answerParent } from '../child.ts'
import { type FaultRelay, type Faults, startFaultRelay } from '../fault-relay.ts'

/** A fault relay in its own process, so that what it costs is not counted for what lies on either side. */
export interface RelayVerbs {
  start(target: { port: number }): Promise<{ port: number }>
  set(faults: Partial<Faults>): void
  /** Ends every connection now, with RST. */
  cutAll(nothing: null): void
}

let relay: FaultRelay | undefined

answerParent<RelayVerbs>({
  async start(target) {
    relay = await startFaultRelay(target)
    return { port: relay.port }
  },
  set: (faults) => relay?.set(faults),
  cutAll: () => relay?.cutAll('rst'),
})
