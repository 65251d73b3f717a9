/**
 * Where a process may die while it handles files, by name. The suite kills one at each of them and looks at what is
 * left; a server in production does nothing there.
 */
export const FAIL_POINTS = [
  'input.presigned',
  'input.admitted',
  'input.object_committed',
  'input.row_committed',
  'input.answered',
  'artifact.admitted',
  'artifact.staged',
  'artifact.object_committed',
  'artifact.row_committed',
  'artifact.answered',
  'disk.staged_opened',
  'disk.kept_hashed',
  'disk.piece_written',
  'disk.all_written',
  'disk.staged_synced',
  'disk.shard_made',
  'disk.renamed',
  'disk.shard_synced',
  'disk.staged_discarded',
  'sweep.rows_forgotten',
  'sweep.object_deleted',
  'sweep.orphan_found',
  'sweep.orphan_deleted',
  'sweep.staged_deleted',
] as const
export type FailPoint = (typeof FAIL_POINTS)[number]

/** Called when a point is reached. */
export type Reach = (point: FailPoint) => void
