/** One thing that can be wrong between here and the server, in the order in which bytes meet them. */
export type Layer = 'dns' | 'tcp' | 'proxy' | 'tls' | 'http' | 'websocket' | 'key' | 'round_trip' | 'throughput'

/** One row of the report. */
export interface Check {
  /** Which of the server's two addresses. */
  part: 'api' | 'edge'
  layer: Layer
  result: 'ok' | 'failed' | 'skipped'
  /** What was found, or why it was not looked for. */
  detail: string
  /** What to do about it; only with `failed`. */
  remedy?: string
}

/** Why a layer does not work, and what the person can do. */
export class Finding extends Error {
  readonly remedy: string

  constructor(detail: string, remedy: string) {
    super(detail)
    this.name = 'Finding'
    this.remedy = remedy
  }
}

export interface Step {
  layer: Layer
  /** Resolves with what was found; rejects with a `Finding` when the layer is at fault. */
  run(signal: AbortSignal): Promise<string | Skipped>
}

/** There was nothing to check, and why. */
export class Skipped {
  readonly why: string
  constructor(why: string) {
    this.why = why
  }
}

/** One layer's share of the ten seconds within which a fault is named. */
const STEP_MS = 3_000

/** Runs steps in order until one fails: whatever stands on a broken layer says nothing new. */
export async function runSteps(part: Check['part'], steps: readonly Step[], signal: AbortSignal): Promise<Check[]> {
  const checks: Check[] = []
  let broken: Layer | undefined
  for (const { layer, run } of steps) {
    if (broken !== undefined) {
      checks.push({ part, layer, result: 'skipped', detail: `not looked at: ${broken} comes first` })
      continue
    }
    const check = await runStep(part, layer, run, AbortSignal.any([signal, AbortSignal.timeout(STEP_MS)]))
    checks.push(check)
    if (check.result === 'failed') broken = layer
  }
  return checks
}

async function runStep(part: Check['part'], layer: Layer, run: Step['run'], signal: AbortSignal): Promise<Check> {
  try {
    const found = await run(signal)
    return found instanceof Skipped
      ? { part, layer, result: 'skipped', detail: found.why }
      : { part, layer, result: 'ok', detail: found }
  } catch (error) {
    if (!(error instanceof Finding)) throw error
    return { part, layer, result: 'failed', detail: error.message, remedy: error.remedy }
  }
}

/** Settles like `work`, but not later than `signal`: then with what `late` makes. For what takes no signal itself. */
export function orLate<T>(work: Promise<T>, signal: AbortSignal, late: () => Finding): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(late())
    const onAbort = () => reject(late())
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
