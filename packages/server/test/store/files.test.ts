import { expect, test } from 'vitest'
import { settleAttempt } from '../../src/store/attempts.ts'
import {
  attemptMayReadInput,
  commitArtifact,
  commitInput,
  createInput,
  findArtifact,
  findAttemptArtifact,
  findInput,
  forgetExpiredFiles,
  getInput,
  inputFiles,
  knownObjectKeys,
  listArtifacts,
} from '../../src/store/files.ts'
import type { Store } from '../../src/store/store.ts'
import { readEvents } from '../../src/store/task-events.ts'
import { onBothEngines } from './engines.ts'
import { claimOne, submitted, TEAM, teamWithWorkflow } from './task-world.ts'

const AT = 1_000
const completed = { sequence: 1, outcome: { kind: 'completed' as const, output: {} } }
const file = { fileName: 'cat.png', contentType: 'image/png', size: 3 }
const upload = (objectKey: string) => ({ objectKey, sha256: 'ab', uploadedAt: AT + 1, expiresAt: AT + 100 })
const artifact = (artifactId: string, key: string, sha256 = 'ab') => ({
  ...file,
  ...{ artifactId, key, sha256, objectKey: `object-${artifactId}` },
})

const announced = (store: Store, fileKey: string) =>
  createInput(store, { ...file, fileKey, teamId: TEAM, userId: 'ada', createdAt: AT, expiresAt: AT + 50 })

onBothEngines('inputs', ({ emptyStore }) => {
  test('are committed once, belong to a team, and are read by the attempt whose task names them', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    await announced(store, 'one')
    expect(await commitInput(store, 'one', upload('o1'))).toBe('committed')
    expect(await commitInput(store, 'one', upload('o2'))).toBe('exists')
    expect(await commitInput(store, 'none', upload('o3'))).toBe('unknown')
    expect(await findInput(store, 'one')).toMatchObject({ objectKey: 'o1', uploadedAt: AT + 1, sha256: 'ab' })
    expect(await getInput(store, 'team-2', 'one')).toBeUndefined()
    expect(await inputFiles(store, TEAM, ['one', 'none'])).toHaveLength(1)

    await announced(store, 'other')
    await submitted(store, { fileKeys: ['one', 'one'] })
    const attempt = await claimOne(store)
    expect(await attemptMayReadInput(store, attempt, 'one')).toMatchObject({ fileKey: 'one', objectKey: 'o1' })
    expect(await attemptMayReadInput(store, attempt, 'other'), 'the task does not name it').toBeUndefined()
    expect(await attemptMayReadInput(store, { ...attempt, teamId: 'team-2' }, 'one')).toBe('late')
    await settleAttempt(store, attempt, completed)
    expect(await attemptMayReadInput(store, attempt, 'one')).toBe('late')
  })

  test('are forgotten when their time is up, but not before the tasks that name them have ended', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    for (const key of ['named', 'free', 'young']) await announced(store, key)
    await commitInput(store, 'named', upload('o-named'))
    await commitInput(store, 'free', upload('o-free'))
    await commitInput(store, 'young', { ...upload('o-young'), expiresAt: AT + 10_000 })
    await submitted(store, { fileKeys: ['named'] })
    const sweep = { now: AT + 1_000, artifactsBefore: 0, limit: 10 }
    expect(await forgetExpiredFiles(store, sweep)).toEqual(['o-free'])
    await settleAttempt(store, await claimOne(store), completed)
    expect(await forgetExpiredFiles(store, sweep)).toEqual(['o-named'])
    expect(await knownObjectKeys(store, ['o-named', 'o-free', 'o-young', 'x'])).toEqual(new Set(['o-young']))
  })
})

onBothEngines('artifacts', ({ emptyStore }) => {
  test('are visible with their event, once, and only from the attempt that holds the task', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const taskId = await submitted(store)
    const attempt = await claimOne(store)
    expect(await findAttemptArtifact(store, attempt, '9.images.0')).toBeUndefined()
    const [first, second] = await Promise.all([
      commitArtifact(store, attempt, artifact('a1', '9.images.0')),
      commitArtifact(store, attempt, artifact('a2', '9.images.0')),
    ])
    expect([first.kind, second.kind].toSorted()).toEqual(['again', 'stored'])
    expect(await commitArtifact(store, attempt, artifact('a3', '9.images.0', 'cd'))).toEqual({ kind: 'conflict' })
    expect(await commitArtifact(store, attempt, artifact('a4', '9.images.1'))).toEqual({
      kind: 'stored',
      artifactId: 'a4',
    })
    for (const stranger of [{ fence: 9 }, { agentId: 'gpu-2' }, { teamId: 'team-2' }]) {
      expect(await commitArtifact(store, { ...attempt, ...stranger }, artifact('a5', 'k'))).toEqual({ kind: 'late' })
      expect(await findAttemptArtifact(store, { ...attempt, ...stranger }, 'k')).toBe('late')
    }
    await settleAttempt(store, attempt, completed)
    expect(await commitArtifact(store, attempt, artifact('a6', 'k'))).toEqual({ kind: 'late' })

    const { events } = await readEvents(store, taskId, 2, 10)
    expect(events.map(({ number, event }) => [number, event.kind])).toEqual([
      [3, 'artifact'],
      [4, 'artifact'],
      [5, 'completed'],
    ])
    expect((await listArtifacts(store, TEAM, taskId, 1)).map(({ key }) => key)).toEqual(['9.images.0', '9.images.1'])
    expect(await listArtifacts(store, 'team-2', taskId, 1)).toEqual([])
    expect(await findArtifact(store, 'a4')).toMatchObject({ taskId, fence: 1, key: '9.images.1', size: 3 })
    const never = { now: 0, artifactsBefore: Number.MAX_SAFE_INTEGER, limit: 10 }
    expect(await forgetExpiredFiles(store, never)).toHaveLength(2)
    expect(await findArtifact(store, 'a4')).toBeUndefined()
  })
})
