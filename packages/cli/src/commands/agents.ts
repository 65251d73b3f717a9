import { connect } from '../connect.ts'
import { type Context, printResult } from '../context.ts'
import { allPages } from '../pages.ts'
import { table } from '../table.ts'
import { formatAge } from '../text.ts'

/** `cyberun agents`. */
export async function listAgents(context: Context): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const agents = await allPages(async (query) => {
    const answer = await client.call('GET /agents', { query })
    return { items: answer.agent_list, total: answer.page_meta.total_count }
  })
  printResult(context, { agent_list: agents }, () => {
    if (agents.length === 0) return 'No agent is connected. On a machine: cyberun agent init, then cyberun agent\n'
    const rows = agents.map((agent) => [
      agent.agent_id,
      agent.agent_status,
      agent.platform_arch,
      agent.agent_labels.join(' '),
      agent.round_trip_ms === null ? '-' : `${agent.round_trip_ms.toFixed(1)} ms`,
      formatAge(agent.connected_at, context.now()),
    ])
    return table(['AGENT', 'STATUS', 'PLATFORM', 'LABELS', 'ROUND TRIP', 'CONNECTED'], rows)
  })
}
