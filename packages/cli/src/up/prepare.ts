import { hostname } from 'node:os'
import { defaultAgentId } from '@cyberun/agent'
import type { FirstUser, RunningServer } from '@cyberun/server'
import { type Context, printNote } from '../context.ts'
import { writePrivate } from '../private-file.ts'
import { agentKeyPath, type Quickstart, quickstartPath, readQuickstart, writeQuickstart } from '../quickstart.ts'

/**
 * What scripts and other commands in this folder need, written at the first start and kept right afterwards. Undefined
 * when it is gone: the server keeps no secret it could be made of again.
 */
export async function prepareQuickstart(
  context: Context,
  dir: string,
  server: RunningServer,
): Promise<Quickstart | undefined> {
  const path = quickstartPath(dir)
  const found = server.firstUser ? await firstStart(dir, server, server.firstUser) : await readQuickstart(path)
  if (found === undefined) {
    const signIn =
      'Sign in with "cyberun login"; if nobody knows the first password, remove the folder to start afresh.'
    printNote(context, `${path} is gone, so no agent runs here. ${signIn}`)
    return undefined
  }
  const quickstart = { ...found, control_url: server.controlUrl, edge_url: server.edgeUrl }
  await writeQuickstart(path, quickstart)
  return quickstart
}

/** Makes the keys of a fresh server's first user: one for the agent of this machine, one for scripts. */
async function firstStart(dir: string, server: RunningServer, user: FirstUser): Promise<Quickstart> {
  const { identity, controlUrl, edgeUrl } = server
  const actor = { userId: user.userId, teamId: user.teamId, role: 'owner' } as const
  const agentKey = await identity.createCredential(actor, { kind: 'agent', displayName: 'agent of cyberun up' })
  const integrationKey = await identity.createCredential(actor, { kind: 'integration', displayName: 'quickstart.json' })
  await writePrivate(agentKeyPath(dir), `${agentKey.rawKey}\n`)
  return {
    control_url: controlUrl,
    edge_url: edgeUrl,
    email_address: user.emailAddress,
    user_password: user.userPassword,
    team_id: user.teamId,
    agent_id: defaultAgentId(hostname()),
    integration_key: integrationKey.rawKey,
  }
}
