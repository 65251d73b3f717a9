import { expect, test } from 'vitest'
import { insertMember } from '../../src/store/teams.ts'
import { insertUser } from '../../src/store/users.ts'
import { refusal, refusalCode } from '../identity/identity-world.ts'
import { holdTransaction } from '../store/away.ts'
import { onBothEngines } from '../store/engines.ts'
import { tasksWorld } from '../tasks/tasks-world.ts'

const PAGE = { current_page: 1, per_page: 20 }
const GRAPH = {
  '3': { class_type: 'KSampler', inputs: { seed: 1, model: ['4', 0] } },
  '4': { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'sd15.safetensors' } },
}

onBothEngines('workflows', ({ emptyStore }) => {
  async function bed() {
    const world = tasksWorld(await emptyStore())
    const editor = await world.newSubmitter()
    return { world, editor, workflows: world.workflows }
  }

  test('the same slug overwrites and versions; each version stays what it was', async () => {
    const { world, editor, workflows } = await bed()
    const first = await world.importWorkflow(editor, { workflow_slug: 'paint', description: 'one' })
    const second = await world.importWorkflow(editor, { workflow_slug: 'paint', description: 'two' })
    expect(second).toBe(first)
    expect(await workflows.get(editor.teamId, first)).toMatchObject({ version: 2, description: 'two' })
    expect(await workflows.getBySlug(editor.teamId, 'paint@1')).toMatchObject({ version: 1, description: 'one' })
    expect(await workflows.getBySlug(editor.teamId, 'paint')).toMatchObject({ version: 2 })
    expect(await refusalCode(workflows.getBySlug(editor.teamId, 'paint@3'))).toBe('not_found')
    const { snapshot_list, page_meta } = await workflows.snapshots(editor.teamId, first, PAGE)
    expect(snapshot_list.map(({ version }) => version)).toEqual([2, 1])
    expect(page_meta.total_count).toBe(2)
  })

  test('a change leaves what it does not name as another one has just made it', async () => {
    const { world, editor, workflows } = await bed()
    const id = await world.importWorkflow(editor, { workflow_slug: 'paint', description: 'one' })
    const held = holdTransaction(world.store)
    const disabling = workflows.change(editor, id, { workflow_status: 'disabled' })
    await held.begun
    await world.importWorkflow(editor, { workflow_slug: 'paint', description: 'two' })
    held.goOn()
    await disabling
    expect(await workflows.get(editor.teamId, id)).toMatchObject({ description: 'two', workflow_status: 'disabled' })
  })

  test('renamed to one slug at once, one has it and the others are told that it is taken', async () => {
    const { world, editor, workflows } = await bed()
    const ids = await Promise.all(
      ['one', 'two', 'three', 'four'].map((slug) => world.importWorkflow(editor, { workflow_slug: slug })),
    )
    // Whether two transactions look at the same moment is up to the database.
    for (let round = 0; round < 20; round++) {
      const renamed = await Promise.allSettled(
        ids.map((id) => workflows.change(editor, id, { workflow_slug: `same-${round}` })),
      )
      const refused = renamed.flatMap((one) => (one.status === 'rejected' ? [one.reason.code] : []))
      expect(refused).toEqual(['conflict', 'conflict', 'conflict'])
    }
  })

  test('restoring makes an old version the newest, as a new one', async () => {
    const { world, editor, workflows } = await bed()
    const id = await world.importWorkflow(editor, { workflow_slug: 'paint', description: 'one' })
    await world.importWorkflow(editor, { workflow_slug: 'paint', description: 'two' })
    await workflows.restore(editor, id, 1)
    expect(await workflows.get(editor.teamId, id)).toMatchObject({ version: 3, description: 'one' })
    expect(await refusalCode(workflows.restore(editor, id, 9))).toBe('not_found')
  })

  test('a change leaves alone what it does not name, and is a version too', async () => {
    const { world, editor, workflows } = await bed()
    const id = await world.importWorkflow(editor, { workflow_slug: 'paint', description: 'one', max_retries: 4 })
    await workflows.change(editor, id, { description: 'two', workflow_slug: 'draw' })
    expect(await workflows.getBySlug(editor.teamId, 'draw')).toMatchObject({
      ...{ id, version: 2, description: 'two', max_retries: 4, display_name: 'paint' },
    })
    await world.importWorkflow(editor, { workflow_slug: 'other' })
    expect(await refusalCode(workflows.change(editor, id, { workflow_slug: 'other' }))).toBe('conflict')
  })

  test('a deleted workflow is gone and its slug is free; its tasks stay, and one that waits keeps its version', async () => {
    const { world, editor, workflows } = await bed()
    const id = await world.importWorkflow(editor, { workflow_slug: 'echo' })
    const taskId = await world.submit(editor, 'echo')
    await workflows.delete(editor.teamId, id)
    expect(await refusalCode(workflows.get(editor.teamId, id))).toBe('not_found')
    expect(await refusalCode(workflows.delete(editor.teamId, id))).toBe('not_found')
    expect(await world.importWorkflow(editor, { workflow_slug: 'echo' })).not.toBe(id)
    expect(await world.tasks.get(editor.teamId, taskId)).toMatchObject({
      ...{ task_status: 'pending', workflow_id: null, workflow_slug: 'echo', workflow_version: 1 },
    })
  })

  test('lists are by slug, filtered, without graphs and without those of other teams', async () => {
    const { world, editor, workflows } = await bed()
    await world.importWorkflow(await world.newSubmitter(), { workflow_slug: 'theirs' })
    await world.importWorkflow(editor, { workflow_slug: 'bb', tool_type: 'comfyui', workflow_json: GRAPH })
    await world.importWorkflow(editor, { workflow_slug: 'aa', workflow_status: 'disabled' })
    const slugs = async (filter: object) =>
      (await workflows.list(editor.teamId, { ...PAGE, ...filter })).workflow_list.map((row) => row.workflow_slug)
    expect(await slugs({})).toEqual(['aa', 'bb'])
    expect(await slugs({ tool_type: 'comfyui' })).toEqual(['bb'])
    expect(await slugs({ workflow_status: 'disabled' })).toEqual(['aa'])
  })

  test('a graph its tool cannot run is refused, with how to get one that it can', async () => {
    const { world, editor } = await bed()
    const refusalOf = (workflow_json: Record<string, unknown>, parameters: object[] = []) =>
      refusal(
        world.importWorkflow(editor, {
          ...{ workflow_slug: 'paint', tool_type: 'comfyui', workflow_json, parameters: parameters as never },
        }),
      )
    expect((await refusalOf({ nodes: [], links: [] })).message).toContain('Export (API)')
    expect((await refusalOf({ prompt: GRAPH })).message).toContain('send the graph itself')
    expect((await refusalOf({})).message).toContain('has no nodes')
    expect((await refusalOf({ ...GRAPH, '5': {}, '6': { class_type: 'X', inputs: 1 } })).details).toEqual([
      { path: 'body.workflow_json.5', message: expect.stringContaining('no class_type') },
      { path: 'body.workflow_json.6', message: 'has inputs that are not an object' },
    ])
    const misplaced = await refusalOf(GRAPH, [{ key: 'seed', type: 'number', node_id: '3', field: 'sed' }])
    expect(misplaced.details).toEqual([{ path: 'body.parameters.0.field', message: expect.stringContaining('seed') }])
  })

  test('a run needs the node classes of its graph', async () => {
    const { world, editor } = await bed()
    await world.importWorkflow(editor, { workflow_slug: 'paint', tool_type: 'comfyui', workflow_json: GRAPH })
    const lacking = {
      agentId: 'gpu-1',
      labels: new Set<string>(),
      tools: new Set(['comfyui' as const]),
      models: 'any' as const,
    }
    const there = { ...lacking, nodeClasses: new Set(['KSampler']), vramGb: 8, gpuName: null, state: 'free' as const }
    const asked = tasksWorld(world.store, [there])
    const taskId = await asked.submit(editor, 'paint')
    expect((await asked.tasks.get(editor.teamId, taskId)).waiting_reason).toBe(
      'no connected agent has node class CheckpointLoaderSimple',
    )
  })

  test('a new installation has a workflow that runs anywhere, once: deleted, it stays so', async () => {
    const { world, editor: owner } = await bed()
    const names = { firstName: '', lastName: '', displayName: 'Owner' }
    const account = { emailAddress: 'owner@example.org', passwordHash: 'none', ...names, createdAt: 1 }
    await insertUser(world.store, { id: owner.userId, ...account })
    await insertMember(world.store, { ...owner, role: 'owner', joinedAt: 1 })
    await world.workflows.seedDemo()
    const { id, tool_type } = await world.workflows.getBySlug(owner.teamId, 'demo-fractal')
    expect(tool_type).toBe('demo')
    expect(await world.submit(owner, 'demo-fractal')).toBeTypeOf('string')
    await world.workflows.delete(owner.teamId, id)
    await world.workflows.seedDemo()
    expect(await refusalCode(world.workflows.getBySlug(owner.teamId, 'demo-fractal'))).toBe('not_found')
  })
})
