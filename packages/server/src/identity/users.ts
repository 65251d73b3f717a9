import { randomBytes } from 'node:crypto'
import { ApiError } from '@cyberun/api'
import { uuidv7 } from 'uuidv7'
import type { Sql } from '../store/handle.ts'
import { insertMember, insertTeam, listTeamsOf } from '../store/teams.ts'
import { findUser, hasUsers, insertUser, type UserRecord } from '../store/users.ts'
import { audit, type Context } from './context.ts'
import type { FirstUser, KeepFirstUser, NewUser, UserProfile } from './identity.ts'
import type { Passwords } from './passwords.ts'
import { normalizeEmail } from './sign-in.ts'

/** A new account whose password is hashed, ready for a transaction. */
type PreparedUser = UserRecord & { createdAt: number }

/** Accounts. */
export class Users {
  readonly #context: Context
  readonly #passwords: Passwords

  constructor(context: Context, passwords: Passwords) {
    this.#context = context
    this.#passwords = passwords
  }

  async create(user: NewUser): Promise<{ id: string }> {
    const prepared = await this.prepare(user)
    await this.insert(this.#context.store, prepared)
    return { id: prepared.id }
  }

  async prepare({ emailAddress, userPassword, displayName }: NewUser): Promise<PreparedUser> {
    return {
      id: uuidv7(),
      emailAddress: normalizeEmail(emailAddress),
      firstName: '',
      lastName: '',
      displayName,
      passwordHash: await this.#passwords.hash(userPassword),
      createdAt: this.#context.now(),
    }
  }

  async insert(sql: Sql, user: PreparedUser): Promise<void> {
    if (await insertUser(sql, user)) return
    throw new ApiError('conflict', 'This e-mail address has an account already; sign in with it.')
  }

  async me(userId: string): Promise<UserProfile> {
    const { store } = this.#context
    const user = await findUser(store, userId)
    if (user === undefined) throw new ApiError('not_found', 'There is no such user.')
    const { id, emailAddress, firstName, lastName, displayName } = user
    return { id, emailAddress, firstName, lastName, displayName, teams: await listTeamsOf(store, userId) }
  }

  /** Two servers may start on one empty database: the address is unique, so one of them makes the user. */
  async bootstrap(emailAddress: string, keep?: KeepFirstUser): Promise<FirstUser | undefined> {
    const { store } = this.#context
    if (await hasUsers(store)) return undefined
    const userPassword = randomBytes(15).toString('base64url')
    const user = await this.prepare({ emailAddress, userPassword, displayName: 'Owner' })
    const teamId = uuidv7()
    const firstUser: FirstUser = { userId: user.id, teamId, emailAddress: user.emailAddress, userPassword }
    await keep?.(firstUser)
    return store.transaction(async (sql) => {
      if (!(await insertUser(sql, user))) return undefined
      await insertTeam(sql, { id: teamId, displayName: 'My team', createdAt: user.createdAt })
      await insertMember(sql, { teamId, userId: user.id, role: 'owner', joinedAt: user.createdAt })
      await audit(sql, user.createdAt, { userId: user.id, teamId, action: 'team.created', subject: teamId })
      return firstUser
    })
  }
}
