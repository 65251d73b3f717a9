import type { Client } from '@cyberun/api/client'
import { type Account, type Connection, connect } from '../connect.ts'
import { type Context, printResult } from '../context.ts'
import { type Session, teamOf } from '../session-file.ts'
import { printable } from '../text.ts'

/** `cyberun whoami`: asks the server, so that it also says whether the credentials still work. */
export async function whoami(context: Context): Promise<undefined> {
  const connection = await connect(context, 'key')
  const { controlUrl: control_url, source } = connection.account
  const who = await identify(context, connection)
  printResult(context, { ...who, control_url, source }, () => {
    const lines = Object.entries({ ...who, server: control_url, 'configured in': sourceText(connection.account) })
    return lines.map(([name, value]) => `${`${name.replace(/_/g, ' ')}:`.padEnd(15)}${printable(value)}\n`).join('')
  })
}

async function identify(context: Context, { account, client }: Connection): Promise<Record<string, string>> {
  switch (account.kind) {
    case 'session':
      return describeUser(context, client, account.session)
    case 'key':
      await tryKey(client)
      return { key: startOf(account.key) }
    case 'quickstart':
      await tryKey(client)
      return { key: startOf(account.quickstart.integration_key), team_id: account.quickstart.team_id }
  }
}

async function describeUser(context: Context, client: Client, session: Session): Promise<Record<string, string>> {
  const user = await client.call('GET /users/me', {})
  const who = { user: user.email_address, name: user.display_name }
  if (session.kind === 'device') return { ...who, signed_in_as: 'paired device' }
  const team_id = teamOf(context, session)
  const team = user.team_list.find(({ id }) => id === team_id)
  return { ...who, team_id, ...(team && { team: team.display_name, role: team.role }) }
}

/** Keys have no call that describes them; one that they may make tells whether they work. */
async function tryKey(client: Client): Promise<void> {
  await client.call('GET /agents', { query: { per_page: 1 } })
}

/** As much of a key as the server itself keeps. */
function startOf(key: string): string {
  return `${key.slice(0, 12)}…`
}

function sourceText(account: Account): string {
  if (account.kind !== 'quickstart') return account.source
  return `${account.source} (left by "cyberun up"; "cyberun login" takes its place)`
}
