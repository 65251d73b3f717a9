import { type MachineKey, temporaryMachineKey } from '@cyberun/agent'
import { onTestFinished } from 'vitest'
import type { BusMessages } from '../../../server/src/bus.ts'
import { createDispatch } from '../../../server/src/dispatch/dispatch.ts'
import type { DispatchLimits } from '../../../server/src/dispatch/limits.ts'
import type { Dispatch } from '../../../server/src/dispatch/types.ts'
import type { NewTask } from '../../../server/src/store/submissions.ts'
import { readEvents } from '../../../server/src/store/task-events.ts'
import { cancelTask, getTask, type TaskRecord } from '../../../server/src/store/tasks.ts'
import { importWorkflow, type WorkflowDefinition } from '../../../server/src/store/workflows.ts'
import { definition, newTask } from '../../../server/test/store/task-world.ts'
import { type AgentsWorld, agentsWorld, logInto, type WorldOptions } from '../agents/agents-world.ts'
import { type ScriptedAgent, type ScriptedAttempt, type ScriptedOptions, scriptedAgent } from './scripted-agent.ts'

/** A server's dispatch over real links and a real store, with agents whose every line is up to the test. */
export interface DispatchWorld extends AgentsWorld {
  readonly teamId: string
  dispatch: Dispatch
  readonly said: { changed: string[]; live: BusMessages['task.live'][] }
  /** Artifact and input streams that came as far as the files part. */
  readonly fileStreams: string[]
  agent(options?: ScriptedOptions): Promise<ScriptedAgent>
  /** An agent of another team. */
  strangerAgent(id: string): Promise<ScriptedAgent>
  /** Revokes the key of all agents of `agent`. */
  revokeAgents(): Promise<void>
  submit(changes?: Partial<NewTask>): Promise<string>
  /** Submits a task, which the idle `agent` takes, and waits until it runs there. */
  runOn(agent: ScriptedAgent, changes?: Partial<NewTask>): Promise<{ taskId: string; attempt: ScriptedAttempt }>
  cancel(taskId: string): Promise<void>
  task(taskId: string): Promise<TaskRecord>
  /** Waits until the task has this status. */
  reaches(taskId: string, status: TaskRecord['status']): Promise<TaskRecord>
  /** Its stored events, shortly: `running`, `log: hello`; without the wait before its first agent. */
  story(taskId: string): Promise<string[]>
  /** Stops dispatch and puts another in its place, as a restart of the server does. */
  restart(): Promise<void>
}

/** What passes is looked for often, so that a test of a deadline is over soon; the deadlines are the real ones. */
const QUICK: Partial<DispatchLimits> = { sweepMs: 20, renewMs: 50, pendingMs: 0 }

export async function dispatchWorld(
  options: { limits?: Partial<DispatchLimits>; workflow?: Partial<WorkflowDefinition> } & Omit<
    WorldOptions,
    'limits'
  > = {},
): Promise<DispatchWorld> {
  const { limits, workflow, ...rest } = options
  const world = await agentsWorld(rest)
  const { store, bus, agents } = world
  const { teamId } = world.owner
  await importWorkflow(store, {
    ...{
      id: 'workflow-1',
      teamId,
      slug: 'echo',
      definition: definition(workflow),
      status: 'active',
      userId: 'ada',
      at: 1,
    },
  })
  const said: DispatchWorld['said'] = { changed: [], live: [] }
  bus.subscribe('task.changed', ({ taskId }) => said.changed.push(taskId))
  bus.subscribe('task.live', (message) => said.live.push(message))
  const fileStreams: string[] = []
  const keep = (kind: string) => (_stream: unknown, agent: { agentId: string }) =>
    void fileStreams.push(`${kind} ${agent.agentId}`)
  let servers = 0

  function startDispatch(): Dispatch {
    const made = createDispatch({
      ...{ store, bus, agents, now: () => Date.now(), log: logInto(world.lines), gatewayId: `gw-${++servers}` },
      files: { serveArtifactStream: keep('artifact'), serveInputStream: keep('input') },
      limits: { ...QUICK, ...limits },
    })
    agents.serveTasks(made)
    return made
  }

  const machines = new Map<string, MachineKey>()
  const { rawKey, id: keyId } = await world.newKey()
  const task = async (taskId: string): Promise<TaskRecord> => {
    const found = await getTask(store, teamId, taskId)
    if (!found) throw new Error(`there is no task ${taskId}`)
    return found
  }
  const made: DispatchWorld = {
    ...world,
    teamId,
    dispatch: startDispatch(),
    said,
    fileStreams,
    async agent(about = {}) {
      const id = about.id ?? 'gpu-1'
      const machine = machines.get(id) ?? temporaryMachineKey()
      machines.set(id, machine)
      return scriptedAgent(world, rawKey, machine, about)
    },
    async strangerAgent(id) {
      const { id: otherTeam } = await world.identity.createTeam(world.owner.userId, 'Others')
      const other = { ...world.owner, teamId: otherTeam }
      const key = await world.identity.createCredential(other, { kind: 'agent', displayName: 'other' })
      return scriptedAgent(world, key.rawKey, temporaryMachineKey(), { id })
    },
    async revokeAgents() {
      await world.identity.revokeCredential(world.owner, keyId)
    },
    async submit(changes = {}) {
      const submission = newTask({ teamId, workflowId: 'workflow-1', ...changes })
      const answer = await made.dispatch.submit(submission)
      if (answer.kind === 'accepted' && !answer.isPlaced) bus.publish('task.submitted', { teamId })
      return submission.id
    },
    async runOn(agent, changes) {
      const taskId = await made.submit(changes)
      const attempt = await agent.next()
      attempt.say({ type: 'accepted' })
      await made.reaches(taskId, 'running')
      return { taskId, attempt }
    },
    async cancel(taskId) {
      const answer = await cancelTask(store, teamId, taskId)
      if (answer?.kind === 'stored' && answer.ended) bus.publish('task.cancelled', answer.ended)
    },
    task,
    async reaches(taskId, status) {
      for (;;) {
        const found = await task(taskId)
        if (found.status === status) return found
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    },
    async story(taskId) {
      const { events } = await readEvents(store, taskId, 0, 1_000)
      const said = events.map(({ event }) => {
        if (event.kind === 'status') return event.status
        return event.kind === 'log' ? `log: ${event.line}` : event.kind
      })
      // Whether it was said to wait before an agent was there is a matter of time.
      return said.filter((line, at) => line !== 'waiting' || said[at - 1] !== 'pending')
    },
    async restart() {
      await made.dispatch.stop(AbortSignal.timeout(1_000))
      made.dispatch = startDispatch()
    },
  }
  onTestFinished(() => made.dispatch.stop(AbortSignal.timeout(1_000)))
  return made
}
