/** Things that come one after the other, and whether timers make them. Pure: told when they come (milliseconds). */

/** Gaps looked at, and how many it takes to judge. */
const GAPS = 9
const FEW_GAPS = 5
/** What comes this soon after another belongs to it. */
const TOGETHER_MS = 50
/** Times remembered. With more than so many of them in a beat of a timer, any times look like beats. */
const TIMES = 40
const TIMES_A_BEAT = 4
/** Timers that are faster are seen by their gaps alone. */
const MIN_BEAT_MS = 2_000
/** A beat is met within this part of it. People meet more of them by chance the wider it is. */
const NEAR_BEAT = 24

/**
 * Things of one kind, one after the other. The newest is made by a timer when most of the last gaps are alike (the row is
 * steady), or when it is on a beat: others lie where one such gap before another of them would be, whatever else came
 * between. A third may be out, because networks stall and laptops sleep.
 */
export class Row {
  /** Of the last ones, oldest first. */
  readonly #times: number[] = []
  #lastAt = Number.NEGATIVE_INFINITY
  #isTimed = false

  /** Notes the next one; true when a timer makes it. */
  add(now: number): boolean {
    const isTogether = now - this.#lastAt < TOGETHER_MS
    this.#lastAt = now
    if (isTogether) return this.#isTimed
    this.#times.push(now)
    if (this.#times.length > TIMES) this.#times.shift()
    this.#isTimed = isSteady(this.#times) || isOnBeat(this.#times)
    return this.#isTimed
  }
}

/** Whether at least two thirds of the last gaps lie within an eighth of their median, and the last one is not shorter. */
function isSteady(times: readonly number[]): boolean {
  const last = times.slice(-GAPS - 1)
  const gaps = last.slice(1).map((time, i) => time - (last[i] ?? time))
  if (gaps.length < FEW_GAPS) return false
  const median = gaps.toSorted((a, b) => a - b)[gaps.length >> 1] ?? 0
  const near = gaps.filter((gap) => Math.abs(gap - median) <= median / 8)
  return near.length * 3 >= gaps.length * 2 && (gaps.at(-1) ?? 0) >= median * (7 / 8)
}

/** Whether the last of `times` is on the beat of a timer: the gap between it and any other may be the beat. */
function isOnBeat(times: readonly number[]): boolean {
  const last = times.at(-1) ?? 0
  return times.some((time) => last - time >= MIN_BEAT_MS && hasBeat(times, last - time))
}

/** Goes back from the last of `times` in steps of `beatMs`, and tells whether two thirds of them find one there. */
function hasBeat(times: readonly number[], beatMs: number): boolean {
  let at = times.at(-1) ?? 0
  const steps = Math.min(GAPS, Math.floor((at - (times[0] ?? at)) / beatMs))
  if (steps < FEW_GAPS) return false
  const from = at - (steps + 1) * beatMs
  if (times.filter((time) => time > from).length > TIMES_A_BEAT * (steps + 1)) return false
  let found = 0
  for (let step = 0; step < steps; step++) {
    const expected = at - beatMs
    const nearest = times.reduce((best, time) => (Math.abs(time - expected) < Math.abs(best - expected) ? time : best))
    const isThere = Math.abs(nearest - expected) <= beatMs / NEAR_BEAT
    if (isThere) found++
    at = isThere ? nearest : expected
  }
  return found * 3 >= steps * 2
}
