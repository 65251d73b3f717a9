import { freePort as spare } from '@cyberun/testkit'
import { expect, test } from 'vitest'
import { freePort } from '../../src/tasks/free-port.ts'

test('a port that another run was given while it was tried is not given again', async () => {
  const [first, second] = [await spare(), await spare()]
  const rules = [first, second].map((port) => ({ first: port, last: port }))
  const asked: number[] = []
  const isTaken = (port: number) => asked.push(port) > 1 && port === first
  expect(await freePort(rules, isTaken)).toBe(second)
  expect(asked).toEqual([first, first, second, second])
})

test('where runs have all that may be reached, there is none', async () => {
  const port = await spare()
  expect(await freePort([{ first: port, last: port }], () => true)).toBeUndefined()
  expect(await freePort('all', () => true)).toBeUndefined()
})
