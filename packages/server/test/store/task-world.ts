import { randomUUID } from 'node:crypto'
import type { Role } from '@cyberun/api'
import { uuidv7 } from 'uuidv7'
import type { FreeAgent } from '../../src/model/fairness.ts'
import type { Requirements } from '../../src/model/requirements.ts'
import { type ClaimedTask, type ClaimOrder, claimTasks, type Takers } from '../../src/store/claims.ts'
import { insertCredential } from '../../src/store/credentials.ts'
import type { Store } from '../../src/store/store.ts'
import { type NewTask, submitTask } from '../../src/store/submissions.ts'
import { insertMember, insertTeam } from '../../src/store/teams.ts'
import { insertUser } from '../../src/store/users.ts'
import { importWorkflow, type WorkflowDefinition } from '../../src/store/workflows.ts'

export const TEAM = 'team-1'
export const WORKFLOW = 'workflow-1'
export const GATEWAY = 'gw-1'
export const ACK_MS = 60_000

export const definition = (changes: Partial<WorkflowDefinition> = {}): WorkflowDefinition => ({
  display_name: 'Echo',
  description: '',
  workflow_json: { program: 'echo' },
  parameters: [],
  tool_type: 'demo',
  required_labels: [],
  task_timeout: 0,
  max_retries: 1,
  preferred_gpu: null,
  min_vram_gb: null,
  required_models: [],
  resume_window: 60,
  ...changes,
})

/** A team with one workflow. */
export async function teamWithWorkflow(store: Store, teamId = TEAM): Promise<void> {
  await insertTeam(store, { id: teamId, displayName: 'One', createdAt: 1 })
  const id = teamId === TEAM ? WORKFLOW : `workflow-of-${teamId}`
  await importWorkflow(store, {
    ...{ id, teamId, slug: 'echo', definition: definition(), status: 'active', userId: 'ada', at: 1 },
  })
}

/** The id of a key of somebody new, who has this role in the team; without one, who is not in it. */
export async function newKey(store: Store, role?: Role): Promise<string> {
  const id = randomUUID()
  const names = { firstName: '', lastName: '', displayName: 'Grace' }
  await insertUser(store, { id, emailAddress: `${id}@example.org`, ...names, passwordHash: '', createdAt: 1 })
  if (role !== undefined) await insertMember(store, { teamId: TEAM, userId: id, role, joinedAt: 1 })
  const key = { keyPrefix: 'sk-', keyHash: id, companionId: null, createdAt: 1, expiresAt: null }
  await insertCredential(store, { id, teamId: TEAM, userId: id, kind: 'integration', displayName: 'ci', ...key })
  return id
}

export const needs = (changes: Partial<Requirements> = {}): Requirements => ({
  tool: 'demo',
  labels: [],
  models: [],
  nodes: [],
  minVramGb: null,
  preferredGpu: null,
  ...changes,
})

export const newTask = (changes: Partial<NewTask> = {}): NewTask => ({
  // As the service makes them: those of one millisecond wait in the order of their ids.
  id: uuidv7(),
  teamId: TEAM,
  workflowId: WORKFLOW,
  workflowVersion: 1,
  workflowSlug: 'echo',
  toolType: 'demo',
  requirements: needs(),
  parameters: { text: 'hello' },
  fileKeys: [],
  submitterId: 'ada',
  creationSource: 'jwt',
  priority: 0,
  dispatchTarget: null,
  targetPool: null,
  submitterRegion: null,
  taskTimeoutMs: 0,
  resumeWindowMs: 60_000,
  maxRetries: 1,
  ...changes,
})

export const freeAgent = (agentId: string, changes: Partial<FreeAgent> = {}): FreeAgent => ({
  agentId,
  labels: new Set(['gpu']),
  tools: new Set(['demo']),
  models: 'any',
  nodeClasses: 'any',
  vramGb: 24,
  gpuName: 'NVIDIA GeForce RTX 4090',
  freeSlots: 1,
  ...changes,
})

/** Submits a task and returns its id. */
export async function submitted(store: Store, changes: Partial<NewTask> = {}): Promise<string> {
  const task = newTask(changes)
  const answer = await submitTask(store, task)
  if (answer.kind !== 'accepted') throw new Error(`submitting answered ${answer.kind}`)
  return task.id
}

export function claim(store: Store, agents: readonly FreeAgent[], limit = 100): Promise<ClaimedTask[]> {
  return claimFor(store, agents, { limit })
}

/** Claims for agents whose slots nobody else fills. */
export async function claimFor(
  store: Store,
  agents: readonly FreeAgent[],
  order: Partial<Omit<ClaimOrder, 'takers'>> = {},
): Promise<ClaimedTask[]> {
  const claimed: ClaimedTask[] = []
  const left = (agent: FreeAgent) => agent.freeSlots - claimed.filter(({ agentId }) => agentId === agent.agentId).length
  const takers: Takers = {
    free: () => agents.map((agent) => ({ ...agent, freeSlots: left(agent) })).filter(({ freeSlots }) => freeSlots > 0),
    hold: () => () => {},
    take: (task) => void claimed.push(task),
  }
  const count = await claimTasks(store, {
    ...{ teamId: TEAM, gatewayId: GATEWAY, ackMs: ACK_MS, limit: 100 },
    ...order,
    takers,
  })
  if (count !== claimed.length) throw new Error(`${count} were claimed, ${claimed.length} came`)
  return claimed
}

/** Claims one task for one agent. Throws when there is none. */
export async function claimOne(store: Store, agentId = 'gpu-1'): Promise<ClaimedTask> {
  const [task] = await claim(store, [freeAgent(agentId)])
  if (task === undefined) throw new Error('there was nothing to claim')
  return task
}
