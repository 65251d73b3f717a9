import { expect, onTestFinished, test, vi } from 'vitest'
import { createLocalBus } from '../../src/bus.ts'
import { CatchUp } from '../../src/dispatch/catch-up.ts'
import { createDispatch } from '../../src/dispatch/dispatch.ts'
import { DISPATCH_LIMITS } from '../../src/dispatch/limits.ts'
import { Seats } from '../../src/dispatch/seats.ts'
import { declineAttempt } from '../../src/store/attempts.ts'
import { Sql } from '../../src/store/handle.ts'
import type { Store } from '../../src/store/store.ts'
import { getTask } from '../../src/store/tasks.ts'
import { waitingFacts } from '../../src/store/waiting.ts'
import { Tally } from '../../src/tally.ts'
import { onBothEngines, silent } from '../store/engines.ts'
import { claimOne, submitted, TEAM, teamWithWorkflow } from '../store/task-world.ts'
import { connection } from './agent-connection.ts'

/** Whatever is asked of a store fails until it is back. */
function storeAway() {
  const asked = vi.spyOn(Sql, 'db').mockImplementation(() => {
    throw new Error('the database is away')
  })
  onTestFinished(() => asked.mockRestore())
  return asked
}

function catchUpWith(store: Store) {
  const seats = new Seats(
    () => 0,
    { stallMs: 0, pauseMs: 0 },
    () => false,
  )
  const seat = seats.take(TEAM, 'a')
  const wake = vi.fn()
  const catchUp = new CatchUp({
    ...{ store, seats, wake, bus: createLocalBus(), log: silent, limits: DISPATCH_LIMITS, gatewayId: 'gw-1' },
    ...{ over: new Tally(), now: () => 0, run: (_event, work) => void work() },
  })
  return { catchUp, seat, wake }
}

onBothEngines('an agent that comes', ({ emptyStore }) => {
  test('while the store is away is given tasks once it is back', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const taskId = await submitted(store)
    const dispatch = createDispatch({
      ...{ store, bus: createLocalBus(), log: silent, now: () => Date.now(), gatewayId: 'gw-1' },
      ...{ agents: { hasTunnel: () => false }, files: { serveArtifactStream() {}, serveInputStream() {} } },
      limits: { sweepMs: 20 },
    })
    onTestFinished(() => dispatch.stop(AbortSignal.abort()))
    const away = storeAway()
    dispatch.linked(connection({}))
    await expect.poll(() => away.mock.calls.length).toBeGreaterThan(0)
    away.mockRestore()
    await expect.poll(() => getTask(store, TEAM, taskId)).toMatchObject({ status: 'queued', agentId: 'a' })
  })

  test('may take nothing before it is known what it came back without', async () => {
    const { catchUp, seat } = catchUpWith(await emptyStore())
    const away = storeAway()
    seat.seated(connection({}))
    await expect(catchUp.one(seat)).rejects.toThrow('away')
    await expect(catchUp.all()).rejects.toThrow('away')
    expect(seat.free(0)).toBeUndefined()
    away.mockRestore()
    await catchUp.all()
    expect([seat.free(0)?.freeSlots, seat.isBehind]).toEqual([3, false])
  })

  test('anew while the store is asked about its former link is asked about again', async () => {
    const { catchUp, seat } = catchUpWith(await emptyStore())
    seat.seated(connection({}))
    const asking = catchUp.one(seat)
    seat.seated(connection({}))
    await catchUp.one(seat)
    expect(seat.free(0), 'the answer was about the former one').toBeUndefined()
    await asking
    expect(seat.isBehind).toBe(false)
  })
})

onBothEngines('an agent that offers something new', ({ emptyStore }) => {
  test('is offered again what it declined, also when the store was away at that moment', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const { catchUp, seat, wake } = catchUpWith(store)
    seat.seated(connection({}))
    await catchUp.one(seat)
    const taskId = await submitted(store)
    await declineAttempt(store, await claimOne(store, 'a'), { reason: 'missing_model', message: 'it is not here' })
    const refusals = async () => (await waitingFacts(store, TEAM, [taskId])).get(taskId)?.refusals.length
    const away = storeAway()
    seat.offersNews = true
    await expect(catchUp.one(seat)).rejects.toThrow('away')
    away.mockRestore()
    expect(await refusals()).toBe(1)
    wake.mockClear()
    await catchUp.all()
    expect(await refusals()).toBe(0)
    expect(wake).toHaveBeenLastCalledWith(TEAM)
  })
})
