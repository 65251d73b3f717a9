import { randomUUID } from 'node:crypto'
import { type ImportWorkflowBody, routes } from '@cyberun/api'
import { createLocalBus } from '../../src/bus.ts'
import type { Attempt } from '../../src/model/attempt.ts'
import type { AgentSituation } from '../../src/model/waiting-reason.ts'
import { acknowledgeAttempt, appendEvents, settleAttempt } from '../../src/store/attempts.ts'
import type { Store } from '../../src/store/store.ts'
import { submitTask } from '../../src/store/submissions.ts'
import { insertTeam } from '../../src/store/teams.ts'
import type { Submitter } from '../../src/tasks/submission.ts'
import { Tasks } from '../../src/tasks/tasks.ts'
import { Workflows } from '../../src/workflows/workflows.ts'
import { silent } from '../store/engines.ts'
import { claimFor, freeAgent } from '../store/task-world.ts'

export const HOUR = 3600 * 1000
export const URL_OF = (artifactId: string) => `http://127.0.0.1/files/${artifactId}`

/** A run that an agent has now, and what the agent does. */
export interface Run {
  taskId: string
  attempt: Attempt
  /** Stores lines and, unless the doorbell is to be lost, says so. */
  log(lines: readonly string[], doorbell?: 'rung' | 'lost'): Promise<void>
  progress(progress: number): void
  complete(): Promise<void>
}

export interface TasksWorld extends AsyncDisposable {
  store: Store
  bus: ReturnType<typeof createLocalBus>
  tasks: Tasks
  workflows: Workflows
  /** A member of a team of its own. */
  newSubmitter(): Promise<Submitter>
  importWorkflow(submitter: Submitter, fields: Partial<ImportWorkflowBody> & { workflow_slug: string }): Promise<string>
  submit(submitter: Submitter, slug: string, body?: object, key?: string): Promise<string>
  /** A running task of the workflow `echo`. */
  run(submitter: Submitter): Promise<Run>
  /** Moves the clock. */
  pass(ms: number): void
}

/** The services of workflows and tasks over a real store. Agents are what a test says they are. */
export function tasksWorld(store: Store, situations: readonly AgentSituation[] = []): TasksWorld {
  const bus = createLocalBus()
  let ahead = 0
  const now = () => Date.now() + ahead
  const workflows = new Workflows({ store, now })
  const tasks = new Tasks({
    ...{ store, bus, now },
    log: silent,
    files: { downloadUrl: (id) => ({ url: URL_OF(id), expiresAt: now() + HOUR }) },
    dispatch: { situations: () => situations, submit: (task) => submitTask(store, task) },
    tunnelUrl: () => undefined,
    eventRetentionMs: HOUR,
  })
  const world: TasksWorld = {
    ...{ store, bus, tasks, workflows },
    async newSubmitter() {
      const teamId = randomUUID()
      await insertTeam(store, { id: teamId, displayName: 'Team', createdAt: now() })
      return { teamId, userId: randomUUID(), source: 'api_key' }
    },
    async importWorkflow(submitter, fields) {
      const whole = { tool_type: 'demo', workflow_json: { program: 'echo' }, ...fields }
      return (await workflows.import(submitter, routes['POST /workflows/import'].body.parse(whole))).id
    },
    async submit(submitter, slug, body = {}, key) {
      const run = routes['POST /r/workflows/slug/{slug}/run'].body.parse(body)
      return (await tasks.submit(submitter, { slug }, run, key)).task_id
    },
    async run(submitter) {
      await world.importWorkflow(submitter, { workflow_slug: 'echo' })
      const taskId = await world.submit(submitter, 'echo')
      return { taskId, ...(await runningAttempt(store, bus, submitter.teamId)) }
    },
    pass: (ms) => {
      ahead += ms
    },
    [Symbol.asyncDispose]: () => tasks.stop(),
  }
  return world
}

async function runningAttempt(store: Store, bus: TasksWorld['bus'], teamId: string): Promise<Omit<Run, 'taskId'>> {
  const [claimed] = await claimFor(store, [freeAgent('gpu-1')], { teamId, ackMs: HOUR, limit: 1 })
  if (!claimed) throw new Error('there was nothing to claim')
  const { taskId, agentId, fence } = claimed
  const attempt = { teamId, taskId, agentId, fence }
  await acknowledgeAttempt(store, attempt)
  bus.publish('task.changed', { taskId })
  let sequence = 0
  return {
    attempt,
    async log(lines, doorbell = 'rung') {
      const timestamp = '2026-01-01T00:00:00.000Z'
      const said = lines.map((line) => ({ stream: 'stdout' as const, line, timestamp }))
      await appendEvents(store, attempt, [{ sequence: ++sequence, event: { kind: 'log', lines: said } }])
      if (doorbell === 'rung') bus.publish('task.changed', { taskId })
    },
    progress(progress) {
      bus.publish('task.live', { taskId, event: { kind: 'progress', progress } })
    },
    async complete() {
      await settleAttempt(store, attempt, {
        sequence: ++sequence,
        outcome: { kind: 'completed', output: { ok: true } },
      })
      bus.publish('task.changed', { taskId })
    },
  }
}
