import type { AttemptProgress } from '@cyberun/protocol'

/** What servers tell each other. A doorbell: the store is the truth and a sweep mends a lost message. */
export interface BusMessages {
  /** A credential is revoked or expired: end every live socket, stream and tunnel made with it. */
  'credential.revoked': { credentialId: string }
  /** A sign-in ended (password changed, refresh token reused): its live sockets end too. */
  'session.revoked': { familyId: string }
  /** Somebody left a team, or lost the role that let them open tunnels. */
  'member.removed': { teamId: string; userId: string }
  'team.deleted': { teamId: string }
  'tunnel.closed': TunnelMessage
  /** Its token and admin token are others now: what was opened with the old ones ends. */
  'tunnel.revoked': TunnelMessage
  /** A task of this team waits for an agent. At most one message in 20 ms for each team is worth anything. */
  'task.submitted': { teamId: string }
  /** Something was stored for the task: an event, an artifact, its end. */
  'task.changed': { taskId: string }
  /** What is not stored: how far the task is, and what it looks like now. */
  'task.live': { taskId: string; event: TaskLiveEvent }
  /** A task was cancelled while this agent had it: the attempt is to stop. */
  'task.cancelled': { teamId: string; taskId: string; agentId: string; fence: number }
}

export interface TunnelMessage {
  sessionId: string
  teamId: string
  agentId: string
}

/** Live only: the latest of each kind replaces the one before. */
export type TaskLiveEvent =
  | ({ kind: 'progress' } & AttemptProgress)
  /** `data` is base64. */
  | { kind: 'preview'; content_type: string; data: string }

export type BusTopic = keyof BusMessages

export interface Bus {
  publish<T extends BusTopic>(topic: T, message: BusMessages[T]): void
  /** Calls `handler` for every later message; the returned function stops that. */
  subscribe<T extends BusTopic>(topic: T, handler: (message: BusMessages[T]) => void): () => void
}

/** The bus of a single server: handlers run at once, in the order they subscribed. */
export function createLocalBus(): Bus {
  const handlers = new Map<BusTopic, Set<(message: never) => void>>()
  return {
    publish(topic, message) {
      for (const handler of handlers.get(topic) ?? []) (handler as (message: unknown) => void)(message)
    },
    subscribe(topic, handler) {
      const set = handlers.get(topic) ?? new Set()
      handlers.set(topic, set)
      set.add(handler)
      return () => void set.delete(handler)
    },
  }
}
