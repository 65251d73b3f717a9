import { uuidv7 } from 'uuidv7'

/** Who opens, changes or closes. */
export interface TunnelCaller {
  userId: string
  credentialId?: string
  familyId?: string
}

/** Who did something, as audit records name them. */
export function actorOf(caller: TunnelCaller): string {
  return caller.credentialId === undefined ? `user:${caller.userId}` : `credential:${caller.credentialId}`
}

/** The record of something that was done to a tunnel. */
export function auditOf(
  { sessionId, teamId }: { sessionId: string; teamId: string },
  at: number,
  actor: string,
  action: string,
  detail: Record<string, string | number | boolean>,
) {
  return { id: uuidv7(), teamId, at, actor, action, subject: sessionId, detail }
}
