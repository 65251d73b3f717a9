import { type Account, type Connection, connect } from '../connect.ts'
import { type Context, printResult } from '../context.ts'
import { printable } from '../text.ts'

/** `cyberun whoami`: asks the server, so that it also says whether the credentials still work. */
export async function whoami(context: Context): Promise<undefined> {
  const connection = await connect(context, 'key')
  const about = { control_url: connection.account.controlUrl, source: connection.account.source }
  const who = await identify(connection)
  const lines = Object.entries({ ...who, server: about.control_url, 'configured in': sourceText(connection.account) })
  printResult(context, { ...who, ...about }, () =>
    lines.map(([name, value]) => `${`${name.replace(/_/g, ' ')}:`.padEnd(15)}${printable(value)}\n`).join(''),
  )
}

async function identify({ account, client }: Connection): Promise<Record<string, string>> {
  const isPerson = account.kind === 'session'
  if (!isPerson) {
    // Keys have no call that describes them; one they may make tells whether they work.
    await client.call('GET /agents', { query: { per_page: 1 } })
    const key = account.kind === 'key' ? account.key : account.quickstart.integration_key
    const team = account.kind === 'quickstart' ? { team: account.quickstart.team_id } : {}
    return { key: `${key.slice(0, 12)}…`, ...team }
  }
  const user = await client.call('GET /users/me', {})
  const teamId = account.session.kind === 'user' ? account.session.team_id : undefined
  const team = user.team_list.find(({ id }) => id === teamId)
  return {
    user: user.email_address,
    name: user.display_name,
    ...(team && { team: team.display_name, team_id: team.id, role: team.role }),
    ...(account.session.kind === 'device' && { signed_in_as: 'paired device' }),
  }
}

function sourceText(account: Account): string {
  switch (account.kind) {
    case 'key':
      return 'CYBERUN_KEY'
    case 'session':
      return account.source
    case 'quickstart':
      return `${account.source} (left by "cyberun up"; "cyberun login" takes its place)`
  }
}
