import type { Bus } from '../bus.ts'
import type { Caller } from './identity.ts'

/** A call that lasts, and what it was admitted by. */
interface LiveCall {
  caller: Caller
  teamId: string
  ending: AbortController
}

/**
 * Calls that last as long as their caller likes. Every other call is judged when it comes; these end when what let them
 * in does: the key, the sign-in, the membership, the team.
 */
export class LiveCalls {
  readonly #calls = new Set<LiveCall>()
  readonly #unsubscribe: readonly (() => void)[]
  #isStopped = false

  constructor(bus: Bus) {
    this.#unsubscribe = [
      bus.subscribe('credential.revoked', ({ credentialId }) =>
        this.#end(({ caller }) => caller.kind !== 'user' && caller.credentialId === credentialId),
      ),
      bus.subscribe('session.revoked', ({ familyId }) =>
        this.#end(({ caller }) => caller.kind === 'user' && caller.familyId === familyId),
      ),
      bus.subscribe('member.removed', (gone) =>
        this.#end(({ caller, teamId }) => teamId === gone.teamId && caller.userId === gone.userId),
      ),
      bus.subscribe('team.deleted', (gone) => this.#end(({ teamId }) => teamId === gone.teamId)),
    ]
  }

  get count(): number {
    return this.#calls.size
  }

  /** The signal aborts when the call is no longer allowed, or the listener stops. `release` when the call is over. */
  hold(caller: Caller, teamId: string): { signal: AbortSignal; release(): void } {
    const call = { caller, teamId, ending: new AbortController() }
    this.#calls.add(call)
    // It was let in before, and would keep a stopping server waiting.
    if (this.#isStopped) call.ending.abort()
    return { signal: call.ending.signal, release: () => void this.#calls.delete(call) }
  }

  /** Ends all of them. */
  stop(): void {
    this.#isStopped = true
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    this.#end(() => true)
  }

  #end(isOver: (call: LiveCall) => boolean): void {
    for (const call of this.#calls) if (isOver(call)) call.ending.abort()
  }
}
