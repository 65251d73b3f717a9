import type { TunnelProtocol } from '@cyberun/api'
import type { Attempt } from '../model/attempt.ts'
import { Sql } from './handle.ts'

/** Who submitted a task whose run has a service, and through which right. */
export interface Exposure {
  protocol: TunnelProtocol
  userId: string
  credentialId: string | null
  familyId: string | null
  /** The attempt whose tunnel was opened last; 0 for none. */
  openedFence: number
}

/** What is to be exposed of an attempt; undefined when its task has no service, or is another attempt's by now. */
export async function findExposure(sql: Sql, attempt: Attempt): Promise<Exposure | undefined> {
  const row = await runningExposures(sql)
    .select(['tunnel_protocol', 'submitter_id', 'credential_id', 'family_id', 'opened_fence'])
    .where('task.id', '=', attempt.taskId)
    .where('task.team_id', '=', attempt.teamId)
    .where('task.agent_id', '=', attempt.agentId)
    .where('task.attempt_fence', '=', attempt.fence)
    .executeTakeFirst()
  if (!row) return undefined
  return {
    protocol: row.tunnel_protocol === 'tcp' ? 'tcp' : 'http',
    userId: row.submitter_id,
    credentialId: row.credential_id,
    familyId: row.family_id,
    openedFence: row.opened_fence,
  }
}

/** Notes that this attempt has its tunnel. False when the attempt is over, or had one before. */
export async function noteExposed(sql: Sql, { taskId, fence }: Pick<Attempt, 'taskId' | 'fence'>): Promise<boolean> {
  const result = await Sql.db(sql)
    .updateTable('task_exposure')
    .set({ opened_fence: fence })
    .where('task_id', '=', taskId)
    .where('opened_fence', '<', fence)
    .where((eb) =>
      eb.exists(
        eb
          .selectFrom('task')
          .select('task.id')
          .where('task.id', '=', taskId)
          .where('task.attempt_fence', '=', fence)
          .where('task.status', '=', 'running'),
      ),
    )
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Of these tasks, those that still run the attempt whose tunnel was opened. */
export async function stillExposed(sql: Sql, taskIds: readonly string[]): Promise<Set<string>> {
  if (taskIds.length === 0) return new Set()
  const rows = await runningExposures(sql)
    .select('task.id')
    .where('task.id', 'in', [...taskIds])
    .whereRef('task.attempt_fence', '=', 'task_exposure.opened_fence')
    .execute()
  return new Set(rows.map(({ id }) => id))
}

function runningExposures(sql: Sql) {
  return Sql.db(sql)
    .selectFrom('task')
    .innerJoin('task_exposure', 'task_exposure.task_id', 'task.id')
    .where('task.status', '=', 'running')
}
