import { randomUUID } from 'node:crypto'
import { lacksPrograms, startPostgres } from '@cyberun/testkit'
import { expect, onTestFinished, test } from 'vitest'
import { commitInput, createInput } from '../../src/store/files.ts'
import { openStore, type Store } from '../../src/store/store.ts'
import { deleteTeam } from '../../src/store/teams.ts'
import { refusal, refusalCode } from '../identity/identity-world.ts'
import { onBothEngines, silent } from '../store/engines.ts'
import { HOUR, tasksWorld } from './tasks-world.ts'

const PARAMETERS = [
  { key: 'prompt', type: 'string', required: true, max: 10, target_path: 'prompt' },
  { key: 'steps', type: 'number', default: 20, min: 1, max: 50, target_path: 'steps' },
  { key: 'palette', type: 'select', options: ['fire', 'ocean'], target_path: 'palette' },
  { key: 'picture', type: 'file', target_path: 'picture' },
] as const

const refusedFor = (error: { code: string }) => error.code

onBothEngines('submitting a run', ({ emptyStore }) => {
  async function bed() {
    const world = tasksWorld(await emptyStore())
    onTestFinished(() => world[Symbol.asyncDispose]())
    const submitter = await world.newSubmitter()
    const workflowId = await world.importWorkflow(submitter, {
      workflow_slug: 'paint',
      parameters: [...PARAMETERS] as never,
    })
    const submit = (parameters: object, key?: string) => world.submit(submitter, 'paint', { parameters }, key)
    return { ...world, world, submitter, workflowId, submit }
  }

  test('it is pending, with the version it was submitted for and the defaults it was not given', async () => {
    const { world, submitter, submit, tasks } = await bed()
    const taskId = await submit({ prompt: 'a cat' })
    await world.importWorkflow(submitter, { workflow_slug: 'paint' })
    expect(await tasks.get(submitter.teamId, taskId)).toMatchObject({
      task_status: 'pending',
      workflow_slug: 'paint',
      workflow_version: 1,
      creation_source: 'api_key',
      queue_position: 1,
      waiting_reason: 'no agent is connected',
    })
  })

  test('a list says of each task why and how long it waits, as the task itself does', async () => {
    const { submitter, submit, tasks } = await bed()
    const [first, second] = [await submit({ prompt: 'a' }), await submit({ prompt: 'b' })]
    await tasks.cancel(submitter.teamId, await submit({ prompt: 'c' }))
    const { task_list } = await tasks.list(submitter.teamId, { current_page: 1, per_page: 20 })
    const waiting_reason = 'no agent is connected'
    expect(task_list.map(({ queue_position, waiting_reason }) => ({ queue_position, waiting_reason }))).toEqual([
      { queue_position: null, waiting_reason: null },
      { queue_position: 2, waiting_reason },
      { queue_position: 1, waiting_reason },
    ])
    expect(task_list.slice(1)).toEqual(await Promise.all([second, first].map((id) => tasks.get(submitter.teamId, id))))
  })

  test('every fault of the parameters has its detail, an unknown name with the nearest there is', async () => {
    const { submit } = await bed()
    const error = await refusal(submit({ promt: 'x', steps: 'many', palette: 'fier', picture: 7 }))
    expect(error.code).toBe('invalid_request')
    expect(error.details).toEqual([
      { path: 'body.parameters.promt', message: 'is no parameter of this workflow; did you mean prompt?' },
      { path: 'body.parameters.prompt', message: 'is required' },
      { path: 'body.parameters.steps', message: 'must be a number, but is string' },
      { path: 'body.parameters.palette', message: 'is no option; did you mean fire?' },
      { path: 'body.parameters.picture', message: 'must be the file_key of an upload, but is number' },
    ])
  })

  test('an unknown slug, an unknown version, a disabled workflow and the wrong tool are told apart', async () => {
    const { world, submitter, workflowId } = await bed()
    const message = async (slug: string, body: object = { parameters: { prompt: 'x' } }) =>
      (await refusal(world.submit(submitter, slug, body))).message
    expect(await message('pait')).toContain('There is no workflow pait in this team')
    expect(await message('paint@7')).toContain('There is no workflow paint with a version 7')
    expect(await message('paint', { parameters: { prompt: 'x' }, tool_type: 'comfyui' })).toContain('body.tool_type')
    await world.workflows.change(submitter, workflowId, { workflow_status: 'disabled' })
    expect(await refusalCode(world.submit(submitter, 'paint', { parameters: { prompt: 'x' } }))).toBe(
      'workflow_disabled',
    )
  })

  test('a workflow of another team is unknown', async () => {
    const { world, workflowId } = await bed()
    const stranger = await world.newSubmitter()
    expect(await refusalCode(world.submit(stranger, 'paint'))).toBe('not_found')
    const run = { parameters: {}, priority: 0 }
    expect(await refusalCode(world.tasks.submit(stranger, { id: workflowId }, run, undefined))).toBe('not_found')
  })

  test('slug@version runs that version', async () => {
    const { world, submitter } = await bed()
    await world.importWorkflow(submitter, { workflow_slug: 'paint' })
    const taskId = await world.submit(submitter, 'paint@1', { parameters: { prompt: 'x' } })
    expect((await world.tasks.get(submitter.teamId, taskId)).workflow_version).toBe(1)
  })

  test('what another server does to a workflow counts for the next run of it', async () => {
    const { world, submitter, workflowId, submit, tasks } = await bed()
    await using elsewhere = tasksWorld(world.store)
    const { workflows } = elsewhere
    const run = { parameters: { prompt: 'a cat' }, priority: 0 }
    const outcomes = async () =>
      Promise.all([
        submit(run.parameters).then(async (id) => (await tasks.get(submitter.teamId, id)).workflow_version, refusedFor),
        tasks.submit(submitter, { id: workflowId }, run, undefined).then(() => 'taken', refusedFor),
      ])
    expect(await outcomes()).toEqual([1, 'taken'])
    await elsewhere.importWorkflow(submitter, { workflow_slug: 'paint', parameters: [...PARAMETERS] as never })
    expect(await outcomes()).toEqual([2, 'taken'])
    await workflows.change(submitter, workflowId, { workflow_status: 'disabled' })
    expect(await outcomes()).toEqual(['workflow_disabled', 'workflow_disabled'])
    await workflows.change(submitter, workflowId, { workflow_status: 'active', workflow_slug: 'draw' })
    expect(await outcomes()).toEqual(['not_found', 'taken'])
    await workflows.change(submitter, workflowId, { workflow_slug: 'paint' })
    expect(await outcomes()).toEqual([5, 'taken'])
    await workflows.delete(submitter.teamId, workflowId)
    expect(await outcomes()).toEqual(['not_found', 'not_found'])
  })

  test('parameters that only the latest version takes are taken, and those it takes no more refused', async () => {
    const { world, submitter, submit } = await bed()
    await submit({ prompt: 'x' })
    await using elsewhere = tasksWorld(world.store)
    const [prompt] = PARAMETERS
    const renamed = { ...prompt, key: 'text' }
    await elsewhere.importWorkflow(submitter, { workflow_slug: 'paint', parameters: [renamed] as never })
    expect(await refusalCode(submit({ prompt: 'x' }))).toBe('invalid_request')
    expect(await submit({ text: 'x' })).toMatch(/^[0-9a-f-]{36}$/)
    await elsewhere.importWorkflow(submitter, { workflow_slug: 'paint', parameters: [prompt] as never })
    expect(await submit({ prompt: 'x' })).toMatch(/^[0-9a-f-]{36}$/)
  })

  async function upload(store: Store, teamId: string, state: 'uploaded' | 'announced'): Promise<string> {
    const fileKey = randomUUID()
    const expiresAt = Date.now() + HOUR
    await createInput(store, {
      ...{ fileKey, teamId, expiresAt, createdAt: Date.now(), userId: 'ada' },
      ...{ fileName: 'cat.png', contentType: 'image/png', size: 1 },
    })
    if (state === 'uploaded') {
      await commitInput(store, fileKey, { objectKey: fileKey, sha256: 'aa', uploadedAt: Date.now(), expiresAt })
    }
    return fileKey
  }

  test("a file must be an upload of this team's that is done; another team's key is like one nobody has", async () => {
    const { world, store, submitter, submit } = await bed()
    const stranger = await world.newSubmitter()
    const fault = async (picture: string) =>
      (await refusal(submit({ prompt: 'x', picture }))).details?.map(({ path, message }) => `${path} ${message}`)
    const unknown = await fault(randomUUID())
    expect(unknown?.[0]).toContain('body.parameters.picture names no file of this team')
    expect(await fault(await upload(store, stranger.teamId, 'uploaded'))).toEqual(unknown)
    expect((await fault(await upload(store, submitter.teamId, 'announced')))?.[0]).toContain('upload is not finished')
    const picture = await upload(store, submitter.teamId, 'uploaded')
    expect(await submit({ prompt: 'x', picture })).toMatch(/^[0-9a-f-]{36}$/)
    world.pass(2 * HOUR)
    expect(await fault(picture)).toEqual(unknown)
  })

  test('the same Idempotency-Key is the same task, whatever became of the workflow; with another body a conflict', async () => {
    const { world, submitter, workflowId, submit } = await bed()
    const taskId = await submit({ prompt: 'a', steps: 5 }, 'key-1')
    expect(await submit({ steps: 5, prompt: 'a' }, 'key-1')).toBe(taskId)
    expect(await refusalCode(submit({ prompt: 'b' }, 'key-1'))).toBe('idempotency_mismatch')
    await world.workflows.delete(submitter.teamId, workflowId)
    expect(await submit({ prompt: 'a', steps: 5 }, 'key-1')).toBe(taskId)
    expect(await refusalCode(submit({ prompt: 'a' }, 'key-2'))).toBe('not_found')
  })

  test('a refused submission does not use up its key', async () => {
    const { submit } = await bed()
    expect(await refusalCode(submit({}, 'key-1'))).toBe('invalid_request')
    expect(await submit({ prompt: 'a' }, 'key-1')).toBeTypeOf('string')
  })

  test('of many duplicates at once one is a task', async () => {
    const { submitter, submit, tasks } = await bed()
    const ids = await Promise.all(Array.from({ length: 30 }, () => submit({ prompt: 'a' }, 'key-1')))
    expect(new Set(ids).size).toBe(1)
    const listed = await tasks.list(submitter.teamId, { current_page: 1, per_page: 20 })
    expect(listed.page_meta.total_count).toBe(1)
  })

  test('a key of one team says nothing of the same key in another', async () => {
    const { world, submit } = await bed()
    const stranger = await world.newSubmitter()
    await world.importWorkflow(stranger, { workflow_slug: 'paint', parameters: [...PARAMETERS] as never })
    const taskId = await submit({ prompt: 'a' }, 'key-1')
    expect(await world.submit(stranger, 'paint', { parameters: { prompt: 'a' } }, 'key-1')).not.toBe(taskId)
  })

  test('lists are newest first and filtered, and hold no task of another team', async () => {
    const { world, submitter, workflowId, submit, tasks } = await bed()
    const ids = [await submit({ prompt: '1' }), await submit({ prompt: '2' }), await submit({ prompt: '3' })]
    const stranger = await world.newSubmitter()
    await world.run(stranger)
    await tasks.cancel(submitter.teamId, ids[1] ?? '')
    const page = { current_page: 1, per_page: 20 }
    const list = async (query: object) =>
      (await tasks.list(submitter.teamId, { ...page, ...query })).task_list.map(({ id }) => id)
    expect(await list({})).toEqual(ids.toReversed())
    expect(await list({ status: 'cancelled' })).toEqual([ids[1]])
    expect(await list({ workflow_id: workflowId, per_page: 1, current_page: 2 })).toEqual([ids[1]])
    expect(await list({ agent_id: 'gpu-1' })).toEqual([])
  })

  test('cancelling is final and may be asked again; a stranger cannot', async () => {
    const { world, submitter, tasks } = await bed()
    const told: unknown[] = []
    world.bus.subscribe('task.cancelled', (message) => told.push(message))
    const { taskId, attempt, complete } = await world.run(submitter)
    const stranger = await world.newSubmitter()
    expect(await refusalCode(tasks.cancel(stranger.teamId, taskId))).toBe('not_found')
    await tasks.cancel(submitter.teamId, taskId)
    await tasks.cancel(submitter.teamId, taskId)
    await complete()
    expect((await tasks.get(submitter.teamId, taskId)).task_status).toBe('cancelled')
    expect(told).toEqual([expect.objectContaining(attempt)])
  })

  test('the end of a team cancels what it has, and tells the agents', async () => {
    const { world, submitter, submit, tasks } = await bed()
    const told: string[] = []
    world.bus.subscribe('task.cancelled', ({ taskId }) => told.push(taskId))
    const { taskId } = await world.run(submitter)
    const waiting = await submit({ prompt: 'x' })
    await tasks.endTeam(submitter.teamId)
    expect(told).toEqual([taskId])
    for (const id of [taskId, waiting]) {
      expect((await tasks.get(submitter.teamId, id)).task_status).toBe('cancelled')
    }
    await deleteTeam(world.store, submitter.teamId)
    for (const id of [taskId, waiting]) expect(await refusalCode(tasks.get(submitter.teamId, id))).toBe('not_found')
  })

  test('a result is empty until the task is completed', async () => {
    const { world, submitter, tasks } = await bed()
    const { taskId, complete } = await world.run(submitter)
    const nulls = { task_output: null, download_url: null, download_urls: null, expires_at: null, completed_at: null }
    expect(await tasks.result(submitter.teamId, taskId)).toMatchObject({ task_status: 'running', ...nulls })
    await complete()
    expect(await tasks.result(submitter.teamId, taskId)).toMatchObject({
      task_status: 'completed',
      task_output: { ok: true },
      download_url: null,
      download_urls: {},
    })
  })
})

test.skipIf(lacksPrograms('postgres'))(
  'without its database a submission is refused with a time to try again',
  async () => {
    await using postgres = await startPostgres()
    const databaseUrl = await postgres.createDatabase('away')
    const store = await openStore({ dataDir: 'unused', databaseUrl, log: silent })
    onTestFinished(() => store.close())
    await using world = tasksWorld(store)
    const submitter = await world.newSubmitter()
    await world.importWorkflow(submitter, { workflow_slug: 'echo' })
    await postgres[Symbol.asyncDispose]()
    const error = await refusal(world.submit(submitter, 'echo', {}, 'key-1'))
    expect(error.code).toBe('unavailable')
    expect(error.retryAfterSeconds).toBeGreaterThan(0)
  },
)
