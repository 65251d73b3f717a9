import { DialError, type Link } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import { type CloseReason, LinkClosedError, unreachable } from '@cyberun/protocol'
import { retryWait } from './backoff.ts'
import { type FinalExit, judgeClose, judgeDial, type Verdict } from './dial-failure.ts'
import { dialThroughSilence } from './eager-dial.ts'
import { type Heartbeat, type MachineReport, startHeartbeat } from './heartbeat.ts'
import type { Disturbance } from './wake.ts'

/** How an agent's run ended. Everything but `stopped` is for the owner to read, and dialling again would not help. */
export type AgentExit = { kind: 'stopped' } | { kind: FinalExit; message: string }

/** What the agent is doing, for whoever shows it. */
export type AgentState = { kind: 'dialling' } | { kind: 'linked' } | { kind: 'waiting'; error: string; hint: string }

export interface Keeper {
  dial(signal: AbortSignal): Promise<Link>
  /** What the heartbeats of each link tell. */
  machine: MachineReport
  /** There is a new link, to be used from now on. */
  onLink(link: Link): void
  /** Calls back at each disturbance of the machine; the returned function stops that. */
  onDisturbance(tell: (what: Disturbance) => void): () => void
  onState(state: AgentState): void
  log: Log
  signal: AbortSignal
  /** Milliseconds of a clock that never jumps. */
  now(): number
  /** From [0, 1). */
  random(): number
}

/** A link that lasted this long was a good one: its loss is no reason to hesitate. */
const LONG_LIVED_MS = 10_000
/** After a disturbance, how long the server may take to answer a heartbeat before the link counts as dead. */
const PROBE_MS = 1_500
/**
 * How long an agent id may be taken before that is final: our own dead link is noticed within 5 s and stays listed for
 * the server's resume window after that, so a machine that lost its state directory gets in within this.
 */
const CONTEND_FOR_MS = 60_000

type Retry = Verdict & { kind: 'retry' }

/** Why a link is no longer the one to use. */
type LinkOver =
  | { kind: 'closed'; reason: CloseReason; livedMs: number }
  /** The server asked us to go elsewhere: the link finishes what it carries while the next one is dialled. */
  | { kind: 'draining'; reason: CloseReason }

/** Where the agent stands between two links. */
interface Outage {
  readonly since: number
  attempt: number
  /** Why we have no link; undefined at the start. */
  cause: Retry | undefined
  /** Since when our id has been somebody else's. */
  contendedSince: number | undefined
}

/** Keeps one link to the gateway, for ever; resolves when told to stop or when trying again would help nobody. */
export async function keepLinked(keeper: Keeper): Promise<AgentExit> {
  const { signal, log, now } = keeper
  const links = new Set<Link>()
  const closeAll = (): void => {
    for (const link of links) link.close({ code: 'done', message: 'the agent was stopped' })
  }
  signal.addEventListener('abort', closeAll, { once: true })
  let outage: Outage = { since: now(), attempt: 0, cause: undefined, contendedSince: undefined }
  try {
    while (!signal.aborted) {
      const link = await dialUntilLinked(keeper, outage)
      if ('kind' in link) return link
      links.add(link)
      void link.closed.then(() => links.delete(link))
      // Told to stop just as the dial succeeded: `closeAll` has run, and runs again below.
      if (signal.aborted) break
      const over = await useLink(keeper, link)
      if (signal.aborted) break
      const verdict = judgeClose(over.reason)
      // Right after a redial, an eviction may be the echo of a dial of our own that we had given up.
      const echo = over.kind === 'closed' && over.reason.code === 'evicted' && over.livedMs < LONG_LIVED_MS
      if (verdict.kind === 'stop' && !echo) return { kind: verdict.exit, message: verdict.message }
      outage = afterLink(outage, over, verdict, now())
    }
    return { kind: 'stopped' }
  } finally {
    signal.removeEventListener('abort', closeAll)
    closeAll()
    log.info({}, 'agent.stopped')
  }
}

function afterLink(before: Outage, over: LinkOver, verdict: Verdict, now: number): Outage {
  const good = over.kind === 'draining' || over.livedMs >= LONG_LIVED_MS
  const cause: Retry =
    verdict.kind === 'retry'
      ? verdict
      : { kind: 'retry', error: over.reason.code, hint: over.reason.message, answered: true, silent: false }
  // A link that fails again and again soon after it was made is the same outage going on.
  return { since: now, attempt: good ? 0 : before.attempt + 1, cause, contendedSince: undefined }
}

/** Dials, waits, dials. Resolves with a link, or with how the run ends. */
async function dialUntilLinked(keeper: Keeper, outage: Outage): Promise<Link | AgentExit> {
  const { signal } = keeper
  while (!signal.aborted) {
    await waitBeforeDial(keeper, outage)
    if (signal.aborted) break
    keeper.onState({ kind: 'dialling' })
    const outcome = await dialOnce(keeper, outage.cause?.silent === true)
    if (outcome.kind === 'link') return outcome.link
    if (signal.aborted) break
    const exit = learnFromFailure(keeper, outage, outcome.verdict)
    if (exit) return exit
  }
  return { kind: 'stopped' }
}

/** The first dial, and the first after a good link, goes out at once unless the server asked for time. */
async function waitBeforeDial(keeper: Keeper, outage: Outage): Promise<void> {
  const { cause } = outage
  if (cause === undefined || (outage.attempt === 0 && cause.retryAfterMs === undefined)) return
  const waitMs = retryWait(
    {
      attempt: Math.max(0, outage.attempt - 1),
      answered: cause.answered,
      downForMs: keeper.now() - outage.since,
      retryAfterMs: cause.retryAfterMs,
    },
    keeper.random(),
  )
  keeper.onState({ kind: 'waiting', error: cause.error, hint: cause.hint })
  await pause(keeper, waitMs, cause.retryAfterMs === undefined)
}

/** Waits, but not through the end of the run, nor (if `wakeable`) through the machine's waking up or changing network. */
function pause(keeper: Keeper, waitMs: number, wakeable: boolean): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      keeper.signal.removeEventListener('abort', done)
      unwatch()
      resolve()
    }
    const timer = setTimeout(done, waitMs)
    keeper.signal.addEventListener('abort', done, { once: true })
    const unwatch = keeper.onDisturbance(() => {
      if (wakeable) done()
    })
  })
}

type DialOutcome = { kind: 'link'; link: Link } | { kind: 'failed'; verdict: Verdict }

async function dialOnce(keeper: Keeper, silent: boolean): Promise<DialOutcome> {
  const discard = (link: Link): void => link.close({ code: 'done', message: 'another dial was quicker' })
  try {
    const dial = (signal: AbortSignal): Promise<Link> => keeper.dial(signal)
    const link = await (silent ? dialThroughSilence(dial, discard, keeper.signal) : dial(keeper.signal))
    return { kind: 'link', link }
  } catch (error) {
    if (error instanceof DialError) return { kind: 'failed', verdict: judgeDial(error.failure) }
    if (keeper.signal.aborted) return { kind: 'failed', verdict: ABORTED }
    throw error
  }
}

const ABORTED: Verdict = { kind: 'retry', error: 'aborted', hint: 'the agent stops', answered: false, silent: false }

/** Notes a failed dial in `outage`, tells the log, and says whether the run is over. */
function learnFromFailure(keeper: Keeper, outage: Outage, verdict: Verdict): AgentExit | undefined {
  const now = keeper.now()
  switch (verdict.kind) {
    case 'stop':
      return { kind: verdict.exit, message: verdict.message }
    case 'contend': {
      outage.contendedSince ??= now
      if (now - outage.contendedSince >= CONTEND_FOR_MS) return { kind: 'agent_id_taken', message: verdict.message }
      note(keeper, outage, {
        kind: 'retry',
        error: 'agent_id_taken',
        hint: verdict.message,
        answered: true,
        silent: false,
        retryAfterMs: verdict.retryAfterMs,
      })
      return undefined
    }
    case 'retry':
      outage.contendedSince = undefined
      note(keeper, outage, verdict)
      return undefined
    default:
      return unreachable(verdict)
  }
}

/** One line when the cause changes, and at the 1st, 2nd, 4th, 8th … failure of the same. */
function note(keeper: Keeper, outage: Outage, cause: Retry): void {
  const changed = outage.cause?.error !== cause.error
  outage.attempt += 1
  outage.cause = cause
  if (!changed && (outage.attempt & (outage.attempt - 1)) !== 0) return
  const { error, hint } = cause
  keeper.log.warn(
    { error, hint, attempts: outage.attempt, down_seconds: Math.round((keeper.now() - outage.since) / 1000) },
    'link.failed',
  )
}

/** Uses a link until it is over or should be replaced. */
async function useLink(keeper: Keeper, link: Link): Promise<LinkOver> {
  const since = keeper.now()
  keeper.onState({ kind: 'linked' })
  keeper.log.info({ server: link.welcome.software, gateway_id: link.welcome.fields['gateway_id'] }, 'link.up')
  const heartbeat = beatOn(keeper, link)
  keeper.onLink(link)
  const unwatch = keeper.onDisturbance((what) => {
    void probe(keeper, link, heartbeat, what)
  })
  const reason = await link.goingAway
  unwatch()
  // A link that ends without a go-away has resolved both promises by now.
  const closed = await isSettled(link.closed)
  const livedMs = keeper.now() - since
  keeper.log.info(
    { reason: reason.code, hint: reason.message, lived_seconds: Math.round(livedMs / 1000) },
    closed ? 'link.lost' : 'link.draining',
  )
  return closed ? { kind: 'closed', reason, livedMs } : { kind: 'draining', reason }
}

function beatOn(keeper: Keeper, link: Link): Heartbeat | undefined {
  try {
    return startHeartbeat(link, keeper.machine)
  } catch (error) {
    // Lost as soon as it was made: `closed` tells the rest.
    if (error instanceof LinkClosedError) return undefined
    throw error
  }
}

/** After a disturbance the link may be deaf for long without a sign: ask, and close it when no answer comes. */
async function probe(keeper: Keeper, link: Link, heartbeat: Heartbeat | undefined, what: Disturbance): Promise<void> {
  const heard = await heartbeat?.probe(PROBE_MS)
  keeper.log.info({ what, heard: heard === true }, 'machine.disturbed')
  if (heard !== true) link.close({ code: 'dead', message: `no answer after the machine ${DISTURBED[what]}` })
}

const DISTURBED = { slept: 'slept', network_changed: 'changed its network' } as const satisfies Record<
  Disturbance,
  string
>

/** Whether a promise that never rejects has resolved already. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol('pending')
  return (await Promise.race([promise, Promise.resolve(pending)])) !== pending
}
