/** What servers tell each other. A doorbell: the store is the truth and a sweep mends a lost message. */
export interface BusMessages {
  /** A credential is revoked or expired: end every live socket, stream and tunnel made with it. */
  'credential.revoked': { credentialId: string }
  /** A sign-in ended (password changed, refresh token reused): its live sockets end too. */
  'session.revoked': { familyId: string }
  /** Somebody left a team, or lost the role that let them open tunnels. */
  'member.removed': { teamId: string; userId: string }
  'team.deleted': { teamId: string }
  'tunnel.closed': { sessionId: string }
}
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
