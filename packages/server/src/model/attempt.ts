import type { TaskStatus } from '@cyberun/api'
import type { JsonObject, LogLine } from '@cyberun/protocol'

/**
 * One assignment of a task to an agent. `fence` is the task's attempt number; a write that names an older one is late.
 * Names of agents are a team's own, so the team belongs to the name of an attempt.
 */
export interface Attempt {
  teamId: string
  taskId: string
  agentId: string
  fence: number
}

/** An attempt and the server that speaks with its agent. */
export interface HeldAttempt extends Attempt {
  gatewayId: string
}

/** What a change of a task came to. */
export type ChangeAnswer =
  /** It holds. */
  | {
      kind: 'stored'
      teamId: string
      /** The task's, after the change. After an attempt failed, `waiting` means that it will be tried again. */
      status: TaskStatus
      /** The agent's sequence numbers up to this one are stored without a hole. */
      acknowledged: number
      /** The attempt that this change ended without its agent's doing: its agent should be told. */
      ended?: HeldAttempt
    }
  /** The agent left out a sequence number: nothing was stored, it has to send again from `acknowledged` + 1. */
  | { kind: 'gap'; teamId: string; acknowledged: number }
  /** The attempt is not, or not any more, the task's current one. Nothing was stored. */
  | { kind: 'late' }
  /** There was nothing to do: the task had ended, or its time was not up. */
  | { kind: 'nothing' }

/** A file of a run as its event announces it. */
export interface AnnouncedArtifact {
  artifact_id: string
  key: string
  file_name: string
  content_type: string
  /** Bytes. */
  size: number
}

/** What is kept of a task's life, one number each, in this order. */
export type StoredEvent =
  /** `message` says why, in words, where the status alone does not. */
  | { kind: 'status'; status: TaskStatus; message?: string }
  | ({ kind: 'log' } & LogLine)
  | ({ kind: 'artifact' } & AnnouncedArtifact)
  | { kind: 'completed'; output: JsonObject }
  | { kind: 'failed'; error: string }
  | { kind: 'cancelled' }
