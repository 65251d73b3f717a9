import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { CaseGroup, ComparedCase, HttpCase, Stage } from './cases.ts'
import { comparableAnswer, comparableRequest } from './compare.ts'
import { ScriptedOrigin } from './origin.ts'
import { type DoorFactory, directDoor, type OpenDoor, type Visitor, VisitorConnection } from './visitor.ts'

/** A case that waits longer than this for an answer has lost it. */
const CASE_TIMEOUT_MS = 10_000

/** Runs `groups` through the door that `factory` opens, each compared case also without it. */
export function runCases(factory: DoorFactory, groups: readonly CaseGroup[]): void {
  describe(`HTTP through ${factory.name}`, () => {
    let origin: ScriptedOrigin
    let door: OpenDoor
    let direct: Visitor
    const connections = new Set<VisitorConnection>()

    const connectTo = async (visitor: Visitor): Promise<VisitorConnection> => {
      const connection = await VisitorConnection.open(visitor)
      connections.add(connection)
      return connection
    }
    const stageFor = (visitor: Visitor): Stage => ({
      origin,
      visitor,
      direct,
      connect: () => connectTo(visitor),
      connectTo,
    })

    beforeAll(async () => {
      origin = await ScriptedOrigin.listen()
      door = await factory.start(origin)
      direct = { ...(await directDoor.start(origin)).visitor, ...door.service }
      origin.mount(direct.pathPrefix)
    })
    afterEach(() => {
      for (const { socket } of connections) socket.destroy()
      connections.clear()
      expect(origin.faults.splice(0), 'what the service met').toEqual([])
    })
    afterAll(async () => {
      await door.stop()
      await origin.close()
    })

    for (const group of groups) {
      const cases = group.cases.filter((one) => applies(one, factory))
      if (cases.length === 0) continue
      describe(group.name, () => {
        for (const one of cases) {
          if (one.kind === 'compared') {
            test(one.name, { timeout: CASE_TIMEOUT_MS }, async () => {
              const without = await play(one, stageFor(direct))
              const through = await play(one, stageFor(door.visitor))
              expect(through).toEqual(without)
            })
          } else {
            test(one.name, { timeout: one.timeoutMs ?? CASE_TIMEOUT_MS }, () => one.run(stageFor(door.visitor)))
          }
        }
      })
    }
  })
}

function applies(one: HttpCase, { parses, tls }: DoorFactory): boolean {
  return one.kind === 'compared' || ((parses || !one.needsHop) && !(tls && one.needsReset))
}

/** Plays a compared case once: what the service received and what the visitor did. */
async function play(one: ComparedCase, stage: Stage): Promise<{ received: unknown[]; answered: unknown[] }> {
  const received: unknown[] = []
  const answered: unknown[] = []
  stage.origin.handle(async (request) => {
    const body = await request.readBody()
    const index = received.push(comparableRequest(request.head, body)) - 1
    await request.reply(one.reply({ head: request.head, body, index }))
  })
  const connection = await stage.connect()
  const answer = async (method: string | undefined) =>
    answered.push(comparableAnswer(await connection.readAnswer(method), stage.visitor.pathPrefix))
  if (one.pipelined) await connection.write(Buffer.concat(one.requests.map((request) => connection.build(request))))
  for (const request of one.requests) {
    if (!one.pipelined) await connection.write(connection.build(request))
    await answer(request.method)
  }
  return { received, answered }
}
