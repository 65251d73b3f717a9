import { expect, test } from 'vitest'
import type { Store } from '../../src/store/store.ts'
import { insertTeam } from '../../src/store/teams.ts'
import {
  countWorkflows,
  deleteWorkflow,
  getSnapshot,
  getWorkflow,
  getWorkflowBySlug,
  importWorkflow,
  listSnapshots,
  listWorkflows,
  restoreSnapshot,
  saveWorkflow,
  type WorkflowDefinition,
} from '../../src/store/workflows.ts'
import { onBothEngines } from './engines.ts'
import { definition, TEAM } from './task-world.ts'

const PAGE = { current_page: 1, per_page: 10 }

async function teams(store: Store): Promise<void> {
  for (const id of [TEAM, 'team-2']) await insertTeam(store, { id, displayName: id, createdAt: 1 })
}

const imported = (store: Store, id: string, slug: string, changes: Partial<WorkflowDefinition> = {}) =>
  importWorkflow(store, {
    ...{ id, teamId: TEAM, slug, definition: definition(changes), status: 'active', userId: 'ada', at: 5 },
  })

onBothEngines('workflows', ({ emptyStore }) => {
  test('are versioned by their slug, and every version stays', async () => {
    const store = await emptyStore()
    await teams(store)
    expect(await imported(store, 'w1', 'draw', { description: 'one' })).toEqual({ id: 'w1', version: 1, isNew: true })
    expect(await imported(store, 'w2', 'draw', { description: 'two' })).toEqual({ id: 'w1', version: 2, isNew: false })
    expect(await getWorkflow(store, TEAM, 'w1')).toMatchObject({ version: 2, definition: { description: 'two' } })
    expect(await getWorkflowBySlug(store, TEAM, 'draw', 1)).toMatchObject({
      version: 1,
      definition: { description: 'one' },
    })
    expect(await getWorkflowBySlug(store, TEAM, 'draw', 3)).toBeUndefined()
    expect(await getWorkflowBySlug(store, 'team-2', 'draw')).toBeUndefined()
    const order = { teamId: TEAM, id: 'w1', version: 1, userId: 'ben', at: 9 }
    expect(await restoreSnapshot(store, order)).toEqual({ version: 3 })
    expect(await restoreSnapshot(store, { ...order, version: 99 })).toBeUndefined()
    expect(await getWorkflow(store, TEAM, 'w1')).toMatchObject({
      version: 3,
      definition: { description: 'one' },
      updatedAt: 9,
    })
    const snapshots = await listSnapshots(store, 'w1', PAGE)
    expect(snapshots.map(({ version, createdByUserId }) => [version, createdByUserId])).toEqual([
      [3, 'ben'],
      [2, 'ada'],
      [1, 'ada'],
    ])
  })

  test('imported at once under one slug are one workflow', async () => {
    const store = await emptyStore()
    await teams(store)
    const made = await Promise.all(['a', 'b', 'c', 'd'].map((id) => imported(store, id, 'same')))
    expect(new Set(made.map(({ id }) => id)).size).toBe(1)
    expect(made.map(({ version }) => version).toSorted()).toEqual([1, 2, 3, 4])
  })

  test('are changed, renamed, disabled, and deleted without their snapshots', async () => {
    const store = await emptyStore()
    await teams(store)
    await imported(store, 'w1', 'draw')
    await imported(store, 'w2', 'paint')
    const by = { userId: 'ada', at: 7 }
    expect(await saveWorkflow(store, TEAM, 'w1', { slug: 'paint', ...by })).toEqual({ kind: 'slug_taken' })
    expect(await saveWorkflow(store, TEAM, 'none', by)).toEqual({ kind: 'unknown' })
    expect(await saveWorkflow(store, TEAM, 'w1', { slug: 'sketch', status: 'disabled', ...by })).toEqual({
      kind: 'saved',
      version: 1,
    })
    expect(await saveWorkflow(store, TEAM, 'w1', { definition: definition(), ...by })).toEqual({
      kind: 'saved',
      version: 2,
    })
    const slugs = async (filter: Parameters<typeof listWorkflows>[2]) =>
      (await listWorkflows(store, TEAM, filter, PAGE)).map(({ slug }) => slug)
    expect(await slugs({})).toEqual(['paint', 'sketch'])
    expect(await slugs({ status: 'disabled', toolType: 'demo' })).toEqual(['sketch'])
    expect(await countWorkflows(store, TEAM, { status: 'active' })).toBe(1)
    expect(await deleteWorkflow(store, 'team-2', 'w1', 8)).toBe(false)
    expect(await deleteWorkflow(store, TEAM, 'w1', 8)).toBe(true)
    expect(await deleteWorkflow(store, TEAM, 'w1', 8)).toBe(false)
    expect(await getWorkflow(store, TEAM, 'w1')).toBeUndefined()
    expect(await getSnapshot(store, 'w1', 2)).toEqual(definition())
    expect(await imported(store, 'w3', 'sketch')).toMatchObject({ id: 'w3', isNew: true })
  })
})
