/** One submitter's waiting tasks of one lane, as seen from a task that waits too. */
export interface LaneAhead {
  priority: number
  submitterId: string
  /** Tasks waiting in the lane. */
  waiting: number
  /** How many of them are older than the task. */
  older: number
}

/**
 * The place of a task among those that compete for the same agents: 1 is next. It follows `planClaims`, as if agents
 * became free one after the other and nobody's task ended before: by priority, then by turns, in which a submitter with
 * `h` tasks on agents has the turns h, h+1, …; then by age.
 *
 * `lanes` are those that some agent which may run the task may run too, the task's own among them.
 */
export function queuePositionOf(
  task: { priority: number; submitterId: string },
  lanes: readonly LaneAhead[],
  held: ReadonlyMap<string, number>,
): number {
  let before = 0
  const rivals = new Map<string, { waiting: number; older: number }>()
  for (const lane of lanes) {
    if (lane.priority > task.priority) before += lane.waiting
    if (lane.priority !== task.priority) continue
    const rival = rivals.get(lane.submitterId) ?? { waiting: 0, older: 0 }
    rivals.set(lane.submitterId, { waiting: rival.waiting + lane.waiting, older: rival.older + lane.older })
  }
  const ownOlder = rivals.get(task.submitterId)?.older ?? 0
  const ownTurn = (held.get(task.submitterId) ?? 0) + ownOlder
  for (const [submitterId, { waiting, older }] of rivals) {
    if (submitterId === task.submitterId) continue
    // Of the rival's tasks those with a lower turn go first, and the one with the same turn if it is older.
    const lowerTurns = ownTurn - (held.get(submitterId) ?? 0)
    if (lowerTurns < 0) continue
    before += Math.min(waiting, lowerTurns)
    if (older > lowerTurns) before += 1
  }
  return before + ownOlder + 1
}
