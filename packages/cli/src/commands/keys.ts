import type { Client } from '@cyberun/api/client'
import { connect } from '../connect.ts'
import { type Context, printResult } from '../context.ts'
import { CliError } from '../errors.ts'
import { allPages } from '../pages.ts'
import { table } from '../table.ts'
import { formatAge, printable } from '../text.ts'

export interface CreateKeyOptions {
  kind: 'integration' | 'agent'
  name: string
  expiresInDays?: number
}

/** `cyberun keys create`. */
export async function createKey(context: Context, options: CreateKeyOptions): Promise<undefined> {
  const { client } = await connect(context, 'user')
  const body = {
    kind: options.kind,
    display_name: options.name,
    ...(options.expiresInDays !== undefined && { expires_in_days: options.expiresInDays }),
  }
  const created = await client.call('POST /credentials', { body })
  printResult(context, created, () => {
    const next =
      options.kind === 'agent'
        ? 'On the machine: cyberun agent init, and put the key into cyberun-agent.yaml.'
        : 'Scripts send it as "Authorization: Bearer …"; this command line takes it from CYBERUN_KEY.'
    return `${printable(created.raw_key)}\n\nKeep it now: it is not shown again. ${next}\n`
  })
}

/** `cyberun keys list`. */
export async function listKeys(context: Context): Promise<undefined> {
  const { client } = await connect(context, 'user')
  const keys = await fetchKeys(client)
  printResult(context, { credentials: keys }, () =>
    table(
      ['KEY', 'KIND', 'NAME', 'STATUS', 'CREATED', 'LAST USED', 'ID'],
      keys.map((key) => [
        `${key.key_prefix}…`,
        key.kind,
        key.display_name,
        key.key_status,
        formatAge(key.created_at, context.now()),
        formatAge(key.last_used_at, context.now()),
        key.id,
      ]),
    ),
  )
}

/** `cyberun keys revoke`. `named` is an id, or a prefix that no other key of the team shares. */
export async function revokeKey(context: Context, named: string): Promise<undefined> {
  const { client } = await connect(context, 'user')
  const prefix = named.replace(/…$/, '')
  const found = (await fetchKeys(client)).filter((key) => key.id === named || key.key_prefix === prefix)
  const [key] = found
  if (key === undefined) {
    throw new CliError('not_found', 'not_found', `no key "${named}" in the team: "cyberun keys list" shows them`)
  }
  if (found.length > 1) {
    throw new CliError('usage', 'ambiguous', `several keys start with "${prefix}": name one by its id`)
  }
  await client.call('DELETE /credentials/{id}', { params: { id: key.id } })
  printResult(context, { id: key.id, key_status: 'revoked' }, () => {
    return `Revoked ${key.kind} key "${printable(key.display_name)}" (${printable(key.key_prefix)}…).\n`
  })
}

async function fetchKeys(client: Client) {
  return allPages(async (query) => {
    const answer = await client.call('GET /credentials', { query })
    return { items: answer.credentials, total: answer.page_meta.total_count }
  })
}
