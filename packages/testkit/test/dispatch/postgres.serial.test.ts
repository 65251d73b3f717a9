import { lacksPrograms, startPostgres } from '@cyberun/testkit'
import { describe, expect, test } from 'vitest'
import { until } from '../../src/until.ts'
import { dispatchWorld } from './dispatch-world.ts'

describe.skipIf(lacksPrograms('postgres'))('on PostgreSQL', () => {
  test('many runs go through, each once, and their events are in order', async () => {
    await using postgres = await startPostgres()
    const world = await dispatchWorld({ databaseUrl: await postgres.createDatabase('many') })
    const agents = await Promise.all(['a', 'b', 'c'].map((id) => world.agent({ id, slots: 2 })))
    const tasks = await Promise.all(Array.from({ length: 60 }, () => world.submit({ maxRetries: 0 })))
    let served = 0
    let isOver = false
    const serving = agents.map(async ({ attempts }) => {
      for (let at = 0; ; at++) {
        await until(() => isOver || attempts.length > at, { withinMs: 60_000 })
        const attempt = attempts[at]
        if (attempt === undefined) return
        attempt.say({ type: 'accepted' })
        attempt.note(1)
        attempt.finish(2)
        served++
      }
    })
    for (const taskId of tasks) await world.reaches(taskId, 'completed')
    isOver = true
    await Promise.all(serving)
    expect(served).toBe(tasks.length)
    for (const taskId of tasks) {
      expect(await world.story(taskId)).toEqual(['pending', 'queued', 'running', 'log: note 1', 'completed'])
    }
  })

  test('a database that crashes in the middle of runs: they go on, and nothing is lost or there twice', async () => {
    await using postgres = await startPostgres()
    const world = await dispatchWorld({ databaseUrl: await postgres.createDatabase('crash') })
    const agent = await world.agent()
    const taskId = await world.submit({ maxRetries: 0 })
    const attempt = await agent.next()
    attempt.say({ type: 'accepted' })
    attempt.note(1)
    await attempt.acknowledged(1)
    const crash = postgres.crash()
    for (let sequence = 2; sequence <= 20; sequence++) attempt.note(sequence)
    await crash
    attempt.finish(21)
    await attempt.over()
    const notes = Array.from({ length: 20 }, (_, number) => `log: note ${number + 1}`)
    expect(await world.story(taskId)).toEqual(['pending', 'queued', 'running', ...notes, 'completed'])
    // And whoever waits gets its turn.
    const next = await world.submit()
    await until(() => agent.attempts.length > 1)
    expect(agent.attempts.at(-1)?.name.task_id).toBe(next)
  })
})
