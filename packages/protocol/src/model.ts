/** A JSON object as it came off the wire: looked at by a parser before anything else. */
export type JsonObject = { readonly [key: string]: unknown }

/**
 * Who writes first when several streams have bytes: control and task events, then terminals, then interactive HTTP,
 * then bulk. Lower is sooner (protocol.md, "Scheduling").
 */
export const PRIORITY = { control: 0, terminal: 1, interactive: 2, bulk: 3 } as const
export type Priority = keyof typeof PRIORITY

/**
 * What a stream is for. `tcp`: the agent dials this port on its loopback and copies bytes. `control`: lines of JSON
 * between agent and server. `echo`: the server sends back what it gets, for `cyberun doctor`. `task`: lines of JSON
 * about one attempt. `artifact`: a file that a run made, from the agent. `input`: a file that a run needs, to the agent.
 * `terminal`: one viewer of a shell on the agent.
 * A kind this end does not know is reset with `unsupported`, by name; unknown fields are skipped.
 */
export type StreamTarget =
  | { kind: 'tcp'; port: number }
  | { kind: 'control' }
  | { kind: 'echo' }
  | { kind: 'task' }
  | { kind: 'artifact' }
  | { kind: 'input' }
  | { kind: 'terminal' }

export interface OpenInit {
  target: StreamTarget
  priority: Priority
}

/** Why a stream was reset. A closed list: its numbers stand in protocol.md. */
export const RESET_CODES = {
  cancelled: 1,
  link_lost: 2,
  refused: 3,
  unsupported: 4,
  port_not_allowed: 5,
  target_refused: 6,
  target_reset: 7,
  target_timeout: 8,
  flow_control: 9,
  internal: 10,
} as const
export type ResetCode = keyof typeof RESET_CODES

/** Why a link is over, in both logs alike. */
export const CLOSE_CODES = {
  done: 0,
  going_away: 1,
  evicted: 2,
  revoked: 3,
  dead: 4,
  protocol_fault: 5,
  transport: 6,
  agent_id_taken: 7,
  unsupported_version: 8,
  refused: 9,
} as const
export type CloseCode = keyof typeof CLOSE_CODES

export interface CloseReason {
  code: CloseCode
  /** One sentence for a person: what happened and what to do. Never holds a secret. */
  message: string
  /** From the peer's go-away: do not dial again before this many milliseconds. */
  retryAfterMs?: number
}

/** The first frame of the end that dialled. */
export interface Hello {
  /** What software this is, for people: `cyberun-agent/0.1.0`. */
  software: string
  /** Names of wire features this end has (capabilities.ts). */
  capabilities: readonly string[]
  /** Largest receive window a stream starts with, in bytes, granted by this end. */
  initialWindow: number
  /** Who dials, decided by the role: for an agent its id, machine proof, labels and limits. */
  fields: JsonObject
}

/** The answer to `hello`. */
export interface Welcome {
  software: string
  capabilities: readonly string[]
  initialWindow: number
  fields: JsonObject
}
