import { existsSync, readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AGENT_LIMITS, type AgentTaskLine, type AttemptEvent, StreamResetError } from '@cyberun/protocol'
import { until } from '@cyberun/testkit/until'
import { describe, expect, test, vi } from 'vitest'
import { AgentStopping, ArtifactError, InputError } from '../../src/tools/tool.ts'
import { COMPLETED, type HandTool, handTool, type RunnerWorld, runnerWorld } from './runner-world.ts'
import { TASK_ID, type TaskTalk } from './scripted-server.ts'

const types = ({ lines }: TaskTalk): string[] => lines.map(({ type }) => type)
const events = ({ lines }: TaskTalk): AttemptEvent[] =>
  lines.flatMap((line) => (line.type === 'event' ? [line.event] : []))
const texts = (talk: TaskTalk): string[] =>
  events(talk).flatMap((event) => (event.kind === 'log' ? event.lines.map(({ line }) => line) : []))
const finished = ({ lines }: TaskTalk) => lines.find((line) => line.type === 'finished')

/** Acknowledges everything said so far. */
function acknowledge(talk: TaskTalk): void {
  const sequence = Math.max(0, ...talk.lines.map((line: AgentTaskLine) => ('sequence' in line ? line.sequence : 0)))
  talk.send({ type: 'ack', sequence })
}

const folders = ({ stateDir }: RunnerWorld): string[] => readdirSync(join(stateDir, 'tasks'))

/** Assigns the one task and waits until its tool runs it. */
async function running(world: RunnerWorld, change = {}) {
  const talk = world.server.assign(change)
  const count = world.tool.runs.length
  await until(() => world.tool.runs.length > count)
  const hand = world.tool.runs[count]
  if (!hand) throw new Error('no run')
  return { talk, hand, run: hand.run }
}

/** An agent that was started anew after its run had ended and nobody had heard of that. */
async function restartedAfterEnd(next?: HandTool): Promise<RunnerWorld> {
  const world = await runnerWorld({ limits: { saveOutcomeMs: 1 } })
  const { talk, hand, run } = await running(world)
  run.log('stdout', 'heard')
  await until(() => talk.lines.some(({ type }) => type === 'event'))
  await world.server.cut()
  run.log('stdout', 'not heard')
  hand.end(COMPLETED)
  await until(() => existsSync(join(world.stateDir, 'tasks', `${TASK_ID}.1`, 'left.jsonl')))
  await world.restart(next)
  return world
}

/** An agent that was started anew in the middle of a run that its tool can take up again. */
async function restartedWhileRunning(): Promise<RunnerWorld> {
  const world = await runnerWorld({ tool: handTool({ canResume: true }) })
  await (await running(world)).run.remember({ prompt_id: 'p1' })
  await world.server.cut()
  await world.restart(handTool({ canResume: true }))
  await until(() => world.tool.runs.length === 1)
  return world
}

describe('an assignment', () => {
  test('is accepted, run, reported in order and forgotten when all of it is stored', async () => {
    const world = await runnerWorld()
    const { talk, hand, run } = await running(world, { parameters: { words: 'hello' } })
    expect(run.assignment).toMatchObject({ taskId: TASK_ID, fence: 1, parameters: { words: 'hello' } })
    expect(world.runner.attempts()).toEqual([{ task_id: TASK_ID, fence: 1 }])
    expect(world.runner.freeSlots()).toBe(0)
    await writeFile(join(run.outputFolder, 'a.txt'), 'A')
    run.log('stdout', 'first')
    run.log('stderr', 'second')
    run.note('a note')
    hand.end(COMPLETED)
    await until(() => finished(talk) !== undefined)
    expect(talk.lines).toEqual([
      { type: 'accepted' },
      {
        type: 'event',
        sequence: 1,
        event: {
          kind: 'log',
          lines: [
            { stream: 'stdout', line: 'first', timestamp: '2025-06-15T15:06:40.000Z' },
            { stream: 'stderr', line: 'second', timestamp: '2025-06-15T15:06:40.000Z' },
          ],
        },
      },
      { type: 'event', sequence: 2, event: { kind: 'note', message: 'a note' } },
      { type: 'finished', sequence: 3, outcome: COMPLETED },
    ])
    expect(world.runner.freeSlots()).toBe(1)
    expect(world.runner.attempts()).toHaveLength(1)
    expect(folders(world)).toHaveLength(1)
    acknowledge(talk)
    await until(() => world.runner.attempts().length === 0)
    await until(() => folders(world).length === 0)
  })

  test('is declined with the reason of the tool', async () => {
    const world = await runnerWorld()
    world.tool.decline = { reason: 'missing_model', message: 'There is no x.', detail: 'x' }
    const talk = world.server.assign()
    await until(() => talk.isOver)
    expect(talk.lines).toEqual([{ type: 'declined', reason: 'missing_model', message: 'There is no x.', detail: 'x' }])
    expect(world.runner.freeSlots()).toBe(1)
  })

  test.each([
    ['of a tool that is not here', { tool_type: 'comfyui' as const }, 'not_allowed'],
    ['while the tool is unhealthy', {}, 'tool_unhealthy'],
  ])('%s is declined', async (_name, change, reason) => {
    const world = await runnerWorld()
    world.unhealthy = 'It is ill.'
    const talk = world.server.assign(change)
    await until(() => talk.isOver)
    expect(talk.lines).toMatchObject([{ type: 'declined', reason }])
  })

  test('beyond the slots is declined, also while another is still looked at', async () => {
    const world = await runnerWorld({ slots: 2 })
    const talks = ['a', 'b', 'c'].map((task_id) => world.server.assign({ task_id }))
    await until(() => talks.every(({ lines }) => lines.length === 1))
    expect(talks.map((talk) => types(talk)[0]).sort()).toEqual(['accepted', 'accepted', 'declined'])
    expect(world.runner.freeSlots()).toBe(0)
  })

  test('with a service gets a port that its owner allows by now', async () => {
    const world = await runnerWorld()
    world.tunnelPorts = []
    const talk = world.server.assign({ expose: { protocol: 'http', port: 0 } })
    await until(() => talk.lines.length === 1)
    expect(talk.lines[0]).toMatchObject({ type: 'declined', reason: 'not_allowed' })
  })

  test('that a tool does not look at in time is declined', async () => {
    const tool = handTool()
    tool.check = () => new Promise(() => {})
    const world = await runnerWorld({ tool, limits: { checkMs: 20 } })
    const talk = world.server.assign()
    await until(() => talk.isOver)
    expect(talk.lines).toMatchObject([{ type: 'declined', reason: 'tool_unhealthy' }])
  })

  test('is declined when the disk is nearly full', async () => {
    const world = await runnerWorld({ limits: { freeDiskBytes: Number.MAX_SAFE_INTEGER } })
    const talk = world.server.assign()
    await until(() => talk.isOver)
    expect(talk.lines).toMatchObject([{ type: 'declined', reason: 'tool_unhealthy' }])
  })

  test('whose stream is gone before it was accepted is not run', async () => {
    const tool = handTool()
    const looked = Promise.withResolvers<undefined>()
    tool.check = () => looked.promise
    const world = await runnerWorld({ tool })
    world.server.assign()
    await until(() => world.runner.freeSlots() === 0)
    await world.server.cut()
    looked.resolve(undefined)
    await until(() => world.runner.freeSlots() === 1)
    expect(world.tool.runs).toEqual([])
  })

  test('that nobody can read ends its stream, and nothing else', async () => {
    const world = await runnerWorld()
    const { talk, hand } = await running(world)
    talk.sendRaw(Buffer.from('{"type":"ack","sequence":"many"}\n'))
    await until(() => talk.isOver)
    expect(hand.signal.aborted).toBe(false)
    expect(world.runner.attempts()).toHaveLength(1)
  })

  test('with a higher fence ends the attempt before it at once', async () => {
    const world = await runnerWorld()
    const { hand } = await running(world)
    const next = world.server.assign({ fence: 2 })
    await until(() => next.isOver)
    expect(next.lines).toMatchObject([{ type: 'declined', reason: 'no_slot' }])
    expect(hand.run.kill.aborted).toBe(true)
  })
})

describe('an outcome', () => {
  test.each([
    ['what the tool threw', new Error('it broke'), 'tool_failed', 'tool'],
    ['an input that is gone', new InputError('gone'), 'input_unavailable', 'client'],
    ['a file that is too large', new ArtifactError('too_large', 'large'), 'artifact_too_large', 'client'],
    ['a full store', new ArtifactError('no_space', 'full'), 'artifact_no_space', 'infrastructure'],
    ['a full disk', Object.assign(new Error('full'), { code: 'ENOSPC' }), 'agent_disk_full', 'infrastructure'],
  ])('names %s', async (_name, error, code, fault) => {
    const world = await runnerWorld()
    const { talk, hand } = await running(world)
    hand.fail(error)
    await until(() => finished(talk) !== undefined)
    expect(finished(talk)).toMatchObject({ outcome: { kind: 'failed', code, message: error.message, fault } })
  })

  test('that does not fit into a line is a failure that says so', async () => {
    const world = await runnerWorld()
    const { talk, hand } = await running(world)
    hand.end({ kind: 'completed', output: { text: 'x'.repeat(300_000) } })
    await until(() => finished(talk) !== undefined)
    expect(finished(talk)).toMatchObject({ outcome: { kind: 'failed', code: 'output_too_large', fault: 'client' } })
  })
})

describe('live reports', () => {
  test('are coalesced, the latest wins, and the last one is told before the end', async () => {
    const world = await runnerWorld({ limits: { progressMs: 60_000 } })
    const { talk, hand, run } = await running(world)
    for (let step = 0; step <= 1000; step++) run.progress({ progress: step / 1000, stepCurrent: step })
    run.progress({ progress: Number.NaN })
    hand.end(COMPLETED)
    await until(() => finished(talk) !== undefined)
    expect(talk.lines.filter(({ type }) => type === 'progress')).toEqual([
      { type: 'progress', progress: 0, step_current: 0 },
      { type: 'progress', progress: 1, step_current: 1000 },
    ])
  })

  test('of pictures are bounded, and the log says that one was too large', async () => {
    const world = await runnerWorld()
    const { talk, run } = await running(world)
    run.preview('image/png', new Uint8Array(200_000))
    run.preview('image/png', new Uint8Array(200_000))
    run.preview('image/png', Uint8Array.of(1, 2, 3))
    await until(() => types(talk).includes('preview') && events(talk).length > 0)
    expect(talk.lines.filter(({ type }) => type === 'preview')).toEqual([
      { type: 'preview', content_type: 'image/png', data: 'AQID' },
    ])
    expect(events(talk)).toMatchObject([{ kind: 'note', message: expect.stringContaining('200000 bytes') as unknown }])
  })

  test('say that somebody else is in front inside the tool', async () => {
    const world = await runnerWorld()
    const { talk, run } = await running(world)
    run.waitingInTool(3)
    await until(() => events(talk).length > 0)
    expect(events(talk)).toEqual([{ kind: 'waiting_in_tool', position: 3 }])
  })
})

describe('the log of a task', () => {
  test('has a cap that it names, and its last lines all the same', async () => {
    const world = await runnerWorld({ limits: { taskLogLines: 10, lastLines: 3 } })
    const { talk, hand, run } = await running(world)
    for (let line = 1; line <= 100; line++) run.log('stdout', `line ${line}`)
    hand.end(COMPLETED)
    await until(() => finished(talk) !== undefined)
    expect(texts(talk)).toEqual([
      ...Array.from({ length: 10 }, (_, index) => `line ${index + 1}`),
      'line 98',
      'line 99',
      'line 100',
    ])
    const notes = events(talk).flatMap((event) => (event.kind === 'note' ? [event.message] : []))
    expect(notes).toEqual([
      'the log of this task has reached its cap of 10 lines: only its last lines will be kept',
      '87 log lines are left out here; the last ones of the run follow',
    ])
  })

  test('is kept to a bound while nobody takes it: the oldest lines go, with a note in their place', async () => {
    const world = await runnerWorld({
      limits: { queueBytes: 1_000, spoolBytes: 4_000, batchLines: 1, unacknowledgedEvents: 1, taskLogLines: 1_000 },
    })
    const { talk, hand, run } = await running(world)
    await world.server.cut()
    run.note('a note is never dropped')
    for (let line = 1; line <= 200; line++) run.log('stdout', `line ${line}`)
    hand.end(COMPLETED)
    await world.relink()
    await until(() => world.server.attached.length === 1)
    const again = world.server.attached[0]
    if (!again) throw new Error('not attached')
    await until(() => again.lines.length > 0)
    expect(again.lines[0]).toMatchObject({ type: 'attach', task_id: TASK_ID, fence: 1, state: 'finished' })
    again.send({ type: 'attached', acknowledged: 0 })
    while (!finished(again)) {
      const before = again.lines.length
      acknowledge(again)
      await until(() => again.lines.length > before)
    }
    expect(talk.lines.slice(1)).toEqual([])
    const numbers = again.lines.flatMap((line) => ('sequence' in line ? [line.sequence] : []))
    expect(numbers).toEqual(numbers.map((_, index) => index + 1))
    const notes = events(again).flatMap((event) => (event.kind === 'note' ? [event.message] : []))
    expect(notes).toContain('a note is never dropped')
    const dropped = Number(/^(\d+) log lines are left out here/.exec(notes.find((one) => /^\d/.test(one)) ?? '')?.[1])
    expect(dropped + texts(again).length).toBe(200)
    expect(texts(again).at(-1)).toBe('line 200')
    acknowledge(again)
    await until(() => folders(world).length === 0)
  })
})

describe('a lost link', () => {
  test('changes nothing for the run; the next one gets what was not stored, and no more', async () => {
    const world = await runnerWorld()
    const { talk, hand, run } = await running(world)
    run.note('one')
    run.note('two')
    await until(() => events(talk).length === 2)
    await world.server.cut()
    run.note('three')
    expect(hand.signal.aborted).toBe(false)
    await world.relink()
    await until(() => world.server.attached.length === 1)
    const again = world.server.attached[0]
    if (!again) throw new Error('not attached')
    await until(() => again.lines.length === 1)
    expect(again.lines[0]).toEqual({
      type: 'attach',
      task_id: TASK_ID,
      fence: 1,
      tool_type: 'demo',
      last_sequence: 2,
      state: 'running',
    })
    again.send({ type: 'attached', acknowledged: 1 })
    hand.end(COMPLETED)
    await until(() => finished(again) !== undefined)
    expect(again.lines.slice(1)).toMatchObject([
      { type: 'event', sequence: 2, event: { message: 'two' } },
      { type: 'event', sequence: 3, event: { message: 'three' } },
      { type: 'finished', sequence: 4 },
    ])
    acknowledge(again)
    await until(() => world.runner.attempts().length === 0)
  })

  test('is not needed for a new stream: one that ends while the link lives is opened again', async () => {
    const world = await runnerWorld({ limits: { attachAgainMs: 5 } })
    const { talk, hand, run } = await running(world)
    talk.sendRaw(Buffer.from('garbage\n'))
    await until(() => world.server.attached.length === 1)
    const again = world.server.attached[0]
    again?.send({ type: 'attached', acknowledged: 0 })
    run.note('still here')
    await until(() => again !== undefined && events(again).length === 1)
    expect(hand.signal.aborted).toBe(false)
  })

  test('that carries no further stream is asked again for one', async () => {
    const world = await runnerWorld({ limits: { attachAgainMs: 5 } })
    const talk = world.server.assign()
    await until(() => talk.lines.length === 1)
    await world.server.cut()
    const link = await world.server.link()
    vi.spyOn(link, 'open').mockImplementationOnce(() => {
      throw new StreamResetError('refused')
    })
    world.runner.useLink(link)
    await until(() => world.server.attached.length === 1)
  })

  test('of which the server knows no more ends the run at once', async () => {
    const world = await runnerWorld()
    const { hand } = await running(world)
    await world.server.cut()
    await world.relink()
    await until(() => world.server.attached.length === 1)
    world.server.attached[0]?.send({ type: 'late' })
    await until(() => hand.run.kill.aborted)
    hand.end(COMPLETED)
    await until(() => world.runner.freeSlots() === 1)
    expect(world.server.attached[0]?.lines).toHaveLength(1)
    expect(world.runner.attempts()).toEqual([])
  })

  test('that is not made up for in time ends the run before the lease does', async () => {
    const world = await runnerWorld()
    const { talk, hand } = await running(world)
    talk.send({ type: 'lease', remaining_ms: 60 })
    await until(() => hand.run.kill.aborted)
    expect(hand.signal.reason).toMatchObject({ message: expect.stringContaining('about to lapse') as unknown })
    expect(world.runner.attempts()).toEqual([])
    hand.end(COMPLETED)
    await until(() => world.runner.freeSlots() === 1)
  })

  test('in the middle of a file is made up for by the next one', async () => {
    const world = await runnerWorld()
    const { hand, run } = await running(world)
    const bytes = Buffer.alloc(300_000, 'picture')
    const path = join(run.outputFolder, 'a.png')
    await writeFile(path, bytes)
    await world.server.cut()
    const kept = run.artifact({ key: 'file.0', path, fileName: '../a\u202e.png', contentType: 'image/png' })
    world.server.artifactAnswers.push({ type: 'lost' }, { type: 'refused', code: 'no_space', message: 'full' })
    await world.relink()
    await kept
    expect(world.server.artifacts).toMatchObject([
      { header: { task_id: TASK_ID, fence: 1, key: 'file.0', file_name: 'a.png', size: 300_000 } },
    ])
    expect(world.server.artifacts[0]?.bytes.equals(bytes)).toBe(true)
    hand.end(COMPLETED)
  })
})

describe('files', () => {
  test('that the server will not have fail the call, with its words', async () => {
    const world = await runnerWorld()
    const { run } = await running(world)
    const path = join(run.outputFolder, 'a.bin')
    await writeFile(path, 'x')
    world.server.artifactAnswers.push({ type: 'refused', code: 'too_large', message: 'At most 0 bytes.' })
    const file = { key: 'file.0', path, fileName: 'a.bin', contentType: 'application/octet-stream' }
    await expect(run.artifact(file)).rejects.toMatchObject({ code: 'too_large', message: /At most 0 bytes/ })
    world.server.artifactAnswers.push({ type: 'refused', code: 'late', message: 'Late.' })
    await expect(run.artifact(file)).rejects.toThrow(/no longer ours/)
    expect(run.kill.aborted).toBe(true)
  })

  test('of the caller are fetched once, checked, and named safely', async () => {
    const world = await runnerWorld()
    const bytes = Buffer.from('the picture')
    const sha256 = 'e4b3e2b3a7dcc7e0d7d8ee7e9d8f6c62c10ee3b47ba1cb1bdc7de40d2bc8a2ac'
    const facts = { file_name: '../../etc/x.PNG', content_type: 'image/png', size: bytes.length }
    const { createHash } = await import('node:crypto')
    const right = createHash('sha256').update(bytes).digest('hex')
    world.server.inputs.set('good', { answer: { type: 'file', ...facts, sha256: right }, bytes })
    world.server.inputs.set('bad', { answer: { type: 'file', ...facts, sha256 }, bytes })
    const { run } = await running(world, {
      files: [
        { parameter: 'image', file_key: 'good', ...facts, sha256: right },
        { parameter: 'mask', file_key: 'bad', ...facts, sha256 },
        { parameter: 'gone', file_key: 'gone', ...facts, sha256 },
      ],
    })
    const [one, two] = await Promise.all([run.input('good'), run.input('good')])
    expect(one).toEqual(two)
    expect(one.path).toMatch(/input\/0\.PNG$/)
    expect(world.server.inputRequests).toHaveLength(1)
    await expect(run.input('bad')).rejects.toThrow(/not those that were uploaded/)
    await expect(run.input('gone')).rejects.toThrow(/there is no such file/)
    await expect(run.input('other')).rejects.toThrow(/has no input file/)
    expect(existsSync(join(run.folder, 'input', '1.PNG'))).toBe(false)
  })
})

describe('cancelling', () => {
  test('is acknowledged at once and climbs the ladder until the run is given up', async () => {
    const world = await runnerWorld({ limits: { againMs: 20, killMs: 40, giveUpMs: 60 } })
    const { talk, hand } = await running(world)
    talk.send({ type: 'cancel' })
    await until(() => types(talk).includes('cancelling'))
    expect(hand.signal.aborted).toBe(true)
    await until(() => hand.run.again.aborted)
    await until(() => hand.run.kill.aborted)
    await until(() => finished(talk) !== undefined)
    expect(finished(talk)).toMatchObject({ outcome: { kind: 'cancelled' } })
    acknowledge(talk)
    await until(() => world.runner.attempts().length === 0)
    // The tool still holds what it has: nothing new is taken, and the server is told, also when it is over.
    expect(world.runner.freeSlots()).toBe(0)
    expect(world.changes).toBe(1)
    hand.end(COMPLETED)
    await until(() => world.runner.freeSlots() === 1)
    expect(world.changes).toBe(2)
  })

  test('wins over a run that completes in the same moment', async () => {
    const world = await runnerWorld()
    const { talk, hand } = await running(world)
    talk.send({ type: 'cancel' })
    await until(() => hand.signal.aborted)
    hand.end(COMPLETED)
    await until(() => finished(talk) !== undefined)
    expect(finished(talk)).toMatchObject({ outcome: { kind: 'cancelled' } })
    expect(hand.run.again.aborted).toBe(false)
  })
})

describe('a restart of the agent', () => {
  test('takes up what the tool remembers, with the facts it kept', async () => {
    const world = await runnerWorld({ tool: handTool({ canResume: true }) })
    const first = await running(world)
    await first.run.remember({ prompt_id: 'p1' })
    await world.server.cut()
    await world.restart(handTool({ canResume: true }))
    expect(world.runner.attempts()).toEqual([{ task_id: TASK_ID, fence: 1 }])
    await until(() => world.tool.runs.length === 1)
    const [resumed] = world.tool.runs
    expect(resumed).toMatchObject({ isResumed: true, run: { remembered: { prompt_id: 'p1' } } })
    await world.relink()
    await until(() => world.server.attached.length === 1)
    const talk = world.server.attached[0]
    talk?.send({ type: 'attached', acknowledged: 7 })
    resumed?.end(COMPLETED)
    await until(() => talk !== undefined && finished(talk) !== undefined)
    expect(talk?.lines.slice(1)).toMatchObject([
      { type: 'event', sequence: 8, event: { kind: 'note' } },
      { type: 'finished', sequence: 9, outcome: COMPLETED },
    ])
  })

  test('reports a run that its tool cannot find as one to try again', async () => {
    const world = await restartedWhileRunning()
    world.tool.runs[0]?.end(undefined)
    await world.relink()
    await until(() => world.server.attached.length === 1)
    const talk = world.server.attached[0]
    talk?.send({ type: 'attached', acknowledged: 0 })
    await until(() => talk !== undefined && finished(talk) !== undefined)
    expect(talk && finished(talk)).toMatchObject({
      outcome: { kind: 'failed', code: 'agent_restarted', fault: 'infrastructure' },
    })
  })

  test('forgets what no tool can take up, and leaves no folder', async () => {
    const world = await runnerWorld()
    const { run } = await running(world)
    await writeFile(join(run.outputFolder, 'half.png'), 'half')
    await world.server.cut()
    expect(folders(world)).toHaveLength(1)
    await world.restart()
    expect(world.runner.attempts()).toEqual([])
    expect(folders(world)).toEqual([])
  })

  test.each([
    { stored: 'nothing', acknowledged: 0, lines: ['heard', 'not heard'] },
    { stored: 'what was sent', acknowledged: 1, lines: ['not heard'] },
    { stored: 'all but the end', acknowledged: 2, lines: [] },
  ])('still reports what was not acknowledged when $stored is stored', async ({ acknowledged, lines }) => {
    const world = await restartedAfterEnd()
    expect(world.runner.attempts()).toEqual([{ task_id: TASK_ID, fence: 1 }])
    expect(world.runner.freeSlots()).toBe(1)
    await world.relink()
    await until(() => world.server.attached.length === 1)
    const talk = world.server.attached[0]
    talk?.send({ type: 'attached', acknowledged })
    await until(() => talk !== undefined && finished(talk) !== undefined)
    expect(talk && texts(talk)).toEqual(lines)
    expect(talk && finished(talk)).toMatchObject({ sequence: 3, outcome: COMPLETED })
  })

  test('still reports it when its tool is configured no more', async () => {
    const world = await restartedAfterEnd({ ...handTool(), type: 'command' })
    expect(world.runner.attempts()).toEqual([{ task_id: TASK_ID, fence: 1 }])
  })

  test('forgets no outcome that nobody has heard for the sake of new runs, however many there are', async () => {
    const world = await runnerWorld({ slots: 300 })
    const runs = []
    for (let number = 0; number < 300; number++) runs.push(await running(world, { task_id: `task-${number}` }))
    for (const { hand } of runs) hand.end(COMPLETED)
    await until(() => world.runner.freeSlots() === AGENT_LIMITS.runningTasks - 300)
    for (let number = 300; number < 512; number++) await running(world, { task_id: `task-${number}` })
    expect(world.runner.freeSlots()).toBe(0)
    expect(world.runner.attempts()).toHaveLength(512)
    const declined = world.server.assign({ task_id: 'task-512' })
    await until(() => declined.lines.length > 0)
    expect(declined.lines).toMatchObject([{ type: 'declined', reason: 'no_slot' }])
    const { changes } = world
    acknowledge(runs[0]?.talk ?? declined)
    await until(() => world.changes > changes)
    expect(world.runner.freeSlots()).toBe(1)
  })

  test('leaves no folder of an outcome that is acknowledged while it is being written down', async () => {
    const world = await runnerWorld({ slots: 40, limits: { saveOutcomeMs: 1 } })
    const runs = []
    for (let number = 0; number < 40; number++) runs.push(await running(world, { task_id: `task-${number}` }))
    for (const { hand } of runs) hand.end(COMPLETED)
    await until(() => folders(world).length > 0)
    for (const { talk } of runs) talk.send({ type: 'ack', sequence: 1 })
    await until(() => world.runner.attempts().length === 0 && folders(world).length === 0)
    expect(world.logLines.filter((line) => line.includes('attempt.folder_stays'))).toEqual([])
  })

  test('lets go of an outcome that is stored already, whatever its number was', async () => {
    const world = await restartedAfterEnd()
    await world.relink()
    await until(() => world.server.attached.length === 1)
    world.server.attached[0]?.send({ type: 'attached', acknowledged: 3, over: true })
    await until(() => folders(world).length === 0)
    expect(world.runner.attempts()).toEqual([])
    expect(world.server.attached[0]?.lines).toHaveLength(1)
  })

  test('ends a run whose end was reported by the former process', async () => {
    const world = await restartedWhileRunning()
    const [resumed] = world.tool.runs
    await world.relink()
    await until(() => world.server.attached.length === 1)
    world.server.attached[0]?.send({ type: 'attached', acknowledged: 3, over: true })
    await until(() => resumed?.run.kill.aborted === true)
    resumed?.end({ kind: 'cancelled' })
    await until(() => folders(world).length === 0)
    expect(world.runner.attempts()).toEqual([])
  })

  test('removes folders that make no sense', async () => {
    const world = await runnerWorld()
    const { mkdir } = await import('node:fs/promises')
    await mkdir(join(world.stateDir, 'tasks', 'x.1'))
    await writeFile(join(world.stateDir, 'tasks', 'x.1', 'assign.json'), '{"type":"assign"')
    await writeFile(join(world.stateDir, 'tasks', 'stray'), '')
    await world.restart()
    expect(folders(world)).toEqual([])
  })

  test('tells of a folder that cannot be read, and starts all the same', async () => {
    const world = await runnerWorld()
    const { mkdir } = await import('node:fs/promises')
    await mkdir(join(world.stateDir, 'tasks', 'x.1', 'assign.json'), { recursive: true })
    await world.restart()
    expect(folders(world)).toEqual(['x.1'])
    expect(world.logLines.filter((line) => line.includes('attempt.folder_stays'))).toHaveLength(1)
  })
})

describe('stopping', () => {
  test('ends what cannot be taken up again, says so, and takes nothing more', async () => {
    const world = await runnerWorld({ limits: { stopGraceMs: 10, stopKillMs: 20, stopAckMs: 10_000 } })
    const { talk, hand } = await running(world)
    const stopped = world.runner.stop()
    expect(world.runner.freeSlots()).toBe(0)
    const next = world.server.assign({ task_id: 'other' })
    await until(() => next.isOver)
    expect(next.lines).toMatchObject([{ type: 'declined', reason: 'no_slot' }])
    await until(() => hand.run.kill.aborted)
    hand.end({ kind: 'cancelled' })
    await until(() => finished(talk) !== undefined)
    expect(finished(talk)).toMatchObject({
      outcome: { kind: 'failed', code: 'agent_stopped', fault: 'infrastructure' },
    })
    acknowledge(talk)
    await stopped
    expect(folders(world)).toEqual([])
  })

  test('takes nothing more that was being prepared', async () => {
    let stopped: Promise<void> | undefined
    const tool = {
      ...handTool(),
      // The last that is asked before a run with a service begins.
      get servicePort() {
        stopped = world.runner.stop()
        return 4_711
      },
    }
    const world = await runnerWorld({ tool })
    const talk = world.server.assign({ expose: { port: 0, protocol: 'http' } })
    await until(() => talk.isOver)
    expect(talk.lines).toMatchObject([{ type: 'declined', reason: 'no_slot' }])
    await stopped
    expect(tool.runs).toEqual([])
  })

  test('lets a run end by itself that is about to', async () => {
    const world = await runnerWorld()
    const { talk, hand } = await running(world)
    const stopped = world.runner.stop()
    hand.end(COMPLETED)
    await until(() => finished(talk) !== undefined)
    acknowledge(talk)
    await stopped
    expect(hand.signal.aborted).toBe(false)
    expect(finished(talk)).toMatchObject({ outcome: COMPLETED })
  })

  test('leaves alone what the next process can take up', async () => {
    const world = await runnerWorld({ tool: handTool({ canResume: true }) })
    const { talk, hand } = await running(world)
    await hand.run.remember({ prompt_id: 'p1' })
    await world.runner.stop()
    expect(hand.signal.reason).toBeInstanceOf(AgentStopping)
    hand.end({ kind: 'cancelled' })
    await until(() => talk.isOver)
    expect(finished(talk)).toBeUndefined()
    await world.restart(handTool({ canResume: true }))
    expect(world.runner.attempts()).toEqual([{ task_id: TASK_ID, fence: 1 }])
  })
})
