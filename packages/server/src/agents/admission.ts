import { ApiError } from '@cyberun/api'
import type { UpgradeHead } from '@cyberun/link'
import { parseKey } from '@cyberun/protocol'
import type { Caller, Identity } from '../identity/identity.ts'

/** Whose agent key a link was made with. */
export interface AgentCaller {
  teamId: string
  credentialId: string
}

/**
 * Whose agent key the upgrade of `/agent` carries. Throws `ApiError` for a request of a browser, for a missing, unknown or
 * different key, and `rate_limited` after too many wrong ones from `address`.
 */
export async function admitAgent(
  request: UpgradeHead,
  address: string,
  identity: Pick<Identity, 'authenticate'>,
): Promise<AgentCaller> {
  // Only browsers send it, and no browser has business here: a page could otherwise dial with what a visitor can reach.
  if (request.headers.origin !== undefined) {
    throw new ApiError('forbidden', 'The agent socket is for agents, not for browsers.')
  }
  const key = /^bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
  if (key === undefined) {
    throw new ApiError('unauthenticated', 'An agent key is missing: send "Authorization: Bearer ak-…".')
  }
  const caller = await authenticate(key, address, identity)
  if (caller.kind !== 'agent') {
    throw new ApiError('unauthenticated', 'An agent connects with a key that starts with ak-: make one of kind agent.')
  }
  return { teamId: caller.teamId, credentialId: caller.credentialId }
}

async function authenticate(key: string, address: string, identity: Pick<Identity, 'authenticate'>): Promise<Caller> {
  try {
    return await identity.authenticate(key, address)
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 'unauthenticated') throw error
    const why = parseKey(key) === undefined ? 'is mistyped' : 'is not known here, has expired or was revoked'
    throw new ApiError(
      'unauthenticated',
      `The agent key ${why}: make a new one with "cyberun keys create --kind agent".`,
      {
        cause: error,
      },
    )
  }
}
