import { expect, test } from 'vitest'
import type { RouteSpec } from '../src/route-spec.ts'
import { type RouteName, routes } from '../src/routes.ts'

/** What the contract says in words, held against the table in which the server reads it. */

const all = Object.entries(routes) as [RouteName, RouteSpec][]
const takes = (spec: RouteSpec, kind: 'user' | 'integration' | 'device') =>
  spec.callers !== 'anyone' && spec.callers.includes(kind)
const namesOf = (wanted: (spec: RouteSpec) => boolean) => all.filter(([, spec]) => wanted(spec)).map(([name]) => name)

test('an integration key calls r/…, agents and tunnels, and nothing else', () => {
  const taken = namesOf((spec) => takes(spec, 'integration'))
  expect(taken.filter((name) => !/ \/r\//.test(name))).toEqual([
    'GET /agents',
    'GET /agents/{agentId}',
    'POST /agents/{agentId}/tunnel',
    'GET /agents/{agentId}/tunnel',
    'DELETE /agents/{agentId}/tunnel',
    'PATCH /agents/{agentId}/tunnel/{sessionId}',
    'POST /agents/{agentId}/tunnel/{sessionId}/revoke',
    'PUT /agents/{agentId}/tunnel/{sessionId}/inspector',
    'GET /agents/{agentId}/tunnel/{sessionId}/inspector',
    'GET /agents/{agentId}/tunnel/{sessionId}/inspector/{number}',
    'POST /agents/{agentId}/tunnel/{sessionId}/inspector/{number}/replay',
  ])
  expect(taken.filter((name) => / \/r\//.test(name))).toEqual(
    all.map(([name]) => name).filter((name) => / \/r\//.test(name)),
  )
})

test('keys, passwords and joining teams are for signed-in users only', () => {
  const alone = namesOf((spec) => takes(spec, 'user') && !takes(spec, 'device'))
  expect(alone).toEqual([
    'PUT /users/me/password',
    'POST /teams',
    'POST /invitations/accept',
    'GET /credentials',
    'POST /credentials',
    'DELETE /credentials/{id}',
    'POST /desktop/pair/confirm',
  ])
})

test('only signing in, pairing and registering are open to anyone', () => {
  expect(namesOf((spec) => spec.callers === 'anyone')).toEqual([
    'POST /auth/login',
    'POST /auth/refresh',
    'POST /invitations/register',
    'POST /desktop/pair/start',
    'POST /desktop/pair/poll',
  ])
})

test('a viewer only reads, or leaves', () => {
  const byViewers = namesOf((spec) => spec.role === 'viewer')
  expect(byViewers.filter((name) => !name.startsWith('GET '))).toEqual(['DELETE /members/{userId}'])
})

test('creating answers 201, submitting a run 202, deleting 204, the rest 200', () => {
  expect(namesOf((spec) => spec.status === 201)).toEqual([
    'POST /teams',
    'POST /invitations',
    'POST /invitations/register',
    'POST /credentials',
    'POST /agents/{agentId}/tunnel',
    'POST /workflows/import',
  ])
  expect(namesOf((spec) => spec.status === 202)).toEqual([
    'POST /r/workflows/{id}/run',
    'POST /r/workflows/slug/{slug}/run',
  ])
  expect(namesOf((spec) => !spec.answer && !spec.eventStream)).toEqual(
    namesOf((spec) => all.some(([name, s]) => s === spec && name.startsWith('DELETE '))),
  )
})

test('every parameter in a path has a schema, and no other', () => {
  for (const [name, spec] of all) {
    const named = [...name.matchAll(/\{(\w+)\}/g)].map(([, key]) => key)
    expect(Object.keys(spec.params?.shape ?? {})).toEqual(named)
  }
})

test('the first user of an installation, whose host has no dot, can be invited', () => {
  const { body } = routes['POST /invitations']
  const takes = (email_address: string) => body.safeParse({ email_address, invitation_role: 'member' }).success
  expect(['admin@localhost', 'ada@example.org'].map(takes)).toEqual([true, true])
  expect(['admin', 'admin@', '@localhost', 'a b@localhost', 'a@b@c', 'a@-b', 'a@b.'].map(takes)).toEqual(
    Array(7).fill(false),
  )
})
