import { sql as raw } from 'kysely'
import { expect, test } from 'vitest'
import { compiledOnce } from '../../src/store/compiled-once.ts'
import { Sql } from '../../src/store/handle.ts'
import { insertTeam } from '../../src/store/teams.ts'
import { onBothEngines } from './engines.ts'

onBothEngines('a statement compiled once', ({ emptyStore }) => {
  test('has the values of each call in their places, in a transaction too', async () => {
    const store = await emptyStore()
    for (const id of ['a', 'b', 'c']) await insertTeam(store, { id, displayName: `Team ${id}`, createdAt: 7 })
    let built = 0
    const find = compiledOnce((sql: Sql, from: string, name: string, createdAt: number) => {
      built++
      const teams = Sql.db(sql)
        .selectFrom('team')
        .select(['id', raw<string>`${'constant'}`.as('constant')])
      const named = teams.where('display_name', '=', name).where('created_at', '=', createdAt)
      return named.where('id', '>=', from).compile()
    })
    const constant = 'constant'
    expect(await find(store, 'a', 'Team b', 7)).toEqual([{ id: 'b', constant }])
    expect(await find(store, 'a', 'Team c', 7)).toEqual([{ id: 'c', constant }])
    expect(await find(store, 'd', 'Team c', 7)).toEqual([])
    expect(await store.transaction((sql) => find(sql, 'c', 'Team c', 7))).toEqual([{ id: 'c', constant }])
    expect(built).toBe(1)
  })
})
