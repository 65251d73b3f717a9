import { ROLES, type Role } from '@cyberun/api'
import { expect, test } from 'vitest'
import { atLeast, mayRevoke, mayWork, parseRole, removalOf } from '../../src/model/roles.ts'

test('each role may do what the one before it may', () => {
  const table = ROLES.map((role) => ROLES.map((least) => (atLeast(role, least) ? 'x' : '.')).join(''))
  expect(ROLES).toEqual(['viewer', 'member', 'admin', 'owner'])
  expect(table).toEqual(['x...', 'xx..', 'xxx.', 'xxxx'])
  expect(ROLES.filter(mayWork)).toEqual(['member', 'admin', 'owner'])
})

test('everybody revokes their own keys, admin and owner anyone’s', () => {
  const may = (role: Role, owner: string) => mayRevoke({ userId: 'me', role }, { userId: owner })
  expect(ROLES.filter((role) => may(role, 'me'))).toEqual([...ROLES])
  expect(ROLES.filter((role) => may(role, 'other'))).toEqual(['admin', 'owner'])
})

test('who is removed by whom', () => {
  const removals = ROLES.map((actor) =>
    ROLES.map((member) => removalOf({ userId: 'me', role: actor }, { userId: 'other', role: member })),
  )
  const nothing = ['forbidden', 'forbidden', 'forbidden', 'forbidden']
  const others = ['allowed', 'allowed', 'allowed', 'is_owner']
  expect(removals).toEqual([nothing, nothing, others, others])
  const leaving = ROLES.map((role) => removalOf({ userId: 'me', role }, { userId: 'me', role }))
  expect(leaving).toEqual(['allowed', 'allowed', 'allowed', 'is_owner'])
})

test.each(['', 'Owner', 'root', 'constructor', '__proto__'])('a row with the role %j is a bug', (raw) => {
  expect(() => parseRole(raw)).toThrow('no such role in the store')
})
