/** Claims for one team: one at a time, with a short rest between, so that what arrives together is claimed together. */
export interface TeamClaims {
  /** There may be something to claim. */
  wake(): void
  stop(): void
}

type State =
  | { kind: 'idle' }
  /** `again`: it was woken meanwhile. */
  | { kind: 'claiming'; again: boolean }
  | { kind: 'resting'; timer: NodeJS.Timeout; again: boolean }
  | { kind: 'stopped' }

/** `claim` resolves with true when there may be more to claim at once; it must not reject. */
export function createTeamClaims(restMs: number, claim: () => Promise<boolean>): TeamClaims {
  let state: State = { kind: 'idle' }

  async function run(): Promise<void> {
    const claiming: State = { kind: 'claiming', again: false }
    state = claiming
    const more = await claim()
    // `stop` may have come in between.
    if (state !== claiming) return
    const timer = setTimeout(() => {
      if (state.kind !== 'resting') return
      if (state.again) void run()
      else state = { kind: 'idle' }
    }, restMs)
    state = { kind: 'resting', timer, again: more || claiming.again }
  }

  return {
    wake() {
      if (state.kind === 'idle') void run()
      else if (state.kind !== 'stopped') state.again = true
    },
    stop() {
      if (state.kind === 'resting') clearTimeout(state.timer)
      state = { kind: 'stopped' }
    },
  }
}
