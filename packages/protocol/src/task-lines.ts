import {
  boundedObject,
  FieldError,
  jsonObject,
  list,
  matching,
  object,
  oneOf,
  prose,
  share,
  text,
  whole,
} from './fields.ts'
import type { JsonObject } from './model.ts'

/**
 * What agent and server tell each other about one attempt: the JSON lines of a stream of kind `task` (docs/protocol.md,
 * "Tasks"). Unknown members are skipped, lines of an unknown type too; every value is bounded before it is kept.
 */

/** The bounds of task streams, in bytes, characters and counts. */
export const TASK_LIMITS = {
  /** A line towards the agent: a workflow's graph is in it. */
  serverLineBytes: 8 * 1024 * 1024,
  /** A line towards the server. */
  agentLineBytes: 256 * 1024,
  /** Levels of nesting in a graph, in parameters, in an output. */
  jsonLevels: 64,
  idCharacters: 64,
  nameCharacters: 512,
  slugCharacters: 100,
  codeCharacters: 64,
  messageCharacters: 8_000,
  contentTypeCharacters: 255,
  files: 256,
  models: 1_024,
  /** Of one log event. */
  logLines: 1_000,
  logLineCharacters: 16_384,
  timestampCharacters: 40,
  /** Of a preview's base64: 192 KiB of picture. */
  previewCharacters: 256 * 1024,
} as const

export const TOOL_TYPES = ['comfyui', 'nerfstudio', 'command', 'demo'] as const
/** What does the work on an agent. */
export type ToolType = (typeof TOOL_TYPES)[number]

/** Names an attempt: one assignment of a task to an agent. The fence grows by one with each. */
export interface AttemptName {
  task_id: string
  fence: number
}

/** A file that the caller uploaded, as the assignment names it. */
export interface AssignedFile {
  /** The key of the parameter whose value it is. */
  parameter: string
  file_key: string
  /** Whatever the caller called it: never a path. */
  file_name: string
  content_type: string
  /** Bytes. */
  size: number
  /** Hex. */
  sha256: string
}

export const EXPOSED_PROTOCOLS = ['http', 'tcp'] as const

/** A service of a run, which a tunnel leads to while it runs. */
export interface ExposedService {
  /** Of the agent's loopback; 0 lets the agent choose one. */
  port: number
  protocol: (typeof EXPOSED_PROTOCOLS)[number]
}

/** What an agent is given to run. */
export interface AssignLine extends AttemptName {
  type: 'assign'
  tool_type: ToolType
  workflow_slug: string
  workflow_version: number
  /** With the parameters put in already; a file is the text `cyberun-file:<file_key>`. */
  workflow_json: JsonObject
  /** Checked and completed with defaults; files as in `workflow_json`. */
  parameters: JsonObject
  files: readonly AssignedFile[]
  /** From the acceptance on; 0 for none. */
  task_timeout_ms: number
  /** How long the attempt stays the agent's while its link is lost. */
  resume_window_ms: number
  required_models: readonly string[]
  expose?: ExposedService
}

/** A line the server writes on a task stream. */
export type ServerTaskLine =
  /** The first line of a stream that the server opened. */
  | AssignLine
  /**
   * Answers `attach`: every numbered line up to this is stored. `over`: the last of them is how the attempt ended, which an
   * agent that was started anew since cannot tell by the number.
   */
  | { type: 'attached'; acknowledged: number; over?: true }
  /** Every numbered line up to this is stored. */
  | { type: 'ack'; sequence: number }
  /** The run is to end. The agent answers `cancelling` at once. */
  | { type: 'cancel' }
  /** The attempt is no longer this agent's: stop at once, report nothing more. */
  | { type: 'late' }
  /** How long the agent may go on without hearing from the server again, from the moment it reads this. */
  | { type: 'lease'; remaining_ms: number }

/** Why an agent does not take an assignment. Another agent gets the task; `invalid` ends it. */
export const DECLINE_REASONS = [
  'missing_model',
  'missing_node',
  'tool_unhealthy',
  'no_slot',
  'not_allowed',
  'invalid',
] as const
export type DeclineReason = (typeof DECLINE_REASONS)[number]

/** Whose fault a failure is: it decides whether the task is tried again. */
export const TASK_FAULTS = ['tool', 'client', 'infrastructure', 'missing'] as const
export type TaskFault = (typeof TASK_FAULTS)[number]

export const LOG_STREAMS = ['stdout', 'stderr'] as const

export interface LogLine {
  stream: (typeof LOG_STREAMS)[number]
  line: string
  /** ISO 8601, of the agent's clock. */
  timestamp: string
}

/** What an attempt reports and the server stores. */
export type AttemptEvent =
  | { kind: 'log'; lines: readonly LogLine[] }
  /** What the agent itself has to say; shown as a log line. */
  | { kind: 'note'; message: string }
  /** Somebody else's work is in front of this run, inside the tool. */
  | { kind: 'waiting_in_tool'; position: number }

/** How an attempt ended on the agent. */
export type AttemptOutcome =
  | { kind: 'completed'; output: JsonObject }
  /** `code` is stable and snake_case, `message` a sentence for the task's owner. */
  | { kind: 'failed'; code: string; message: string; fault: TaskFault }
  | { kind: 'cancelled' }

/** How far an attempt is. Live: the latest replaces what was there. */
export interface AttemptProgress {
  /** 0 to 1. */
  progress: number
  current_node?: string
  step_current?: number
  step_total?: number
  stage?: string
  message?: string
}

/** A line the agent writes on a task stream. `sequence` counts event and finished lines of an attempt from 1, without holes. */
export type AgentTaskLine =
  /** The first line of a stream that the agent opened: it still has this attempt. */
  | ({
      type: 'attach'
      tool_type: ToolType
      /** The highest number given to a line so far; 0 for none. */
      last_sequence: number
      state: 'running' | 'finished'
      expose_port?: number
    } & AttemptName)
  /** `expose_port`: where the service of the run will listen, for one with `expose`. */
  | { type: 'accepted'; expose_port?: number }
  /** `detail` is the model or node class that is missing. */
  | { type: 'declined'; reason: DeclineReason; message: string; detail?: string }
  | { type: 'event'; sequence: number; event: AttemptEvent }
  | { type: 'finished'; sequence: number; outcome: AttemptOutcome }
  | ({ type: 'progress' } & AttemptProgress)
  /** A picture, base64. */
  | { type: 'preview'; content_type: string; data: string }
  /** Answers `cancel` at once, before the tool has been asked. */
  | { type: 'cancelling' }

const MOST = Number.MAX_SAFE_INTEGER
const ID = /^[A-Za-z0-9][\w.-]{0,63}$/
const CODE = /^[a-z][a-z0-9_]{0,63}$/
const SHA256 = /^[0-9a-f]{64}$/
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/

/** Reads the name of an attempt out of an object. Throws `FieldError`. */
export function parseAttemptName(path: string, fields: JsonObject): AttemptName {
  return {
    task_id: id(member(path, 'task_id'), fields['task_id']),
    fence: whole(member(path, 'fence'), fields['fence'], 1, MOST),
  }
}

/** Reads one line of a server on a task stream; undefined for a type this end does not know. Throws `FieldError`. */
export function parseServerTaskLine(line: string): ServerTaskLine | undefined {
  const fields = jsonObject('a task line', line)
  switch (fields['type']) {
    case 'assign':
      return assignLine(fields)
    case 'attached':
      return {
        ...{ type: 'attached', acknowledged: whole('acknowledged', fields['acknowledged'], 0, MOST) },
        ...(fields['over'] === true && { over: true }),
      }
    case 'ack':
      return { type: 'ack', sequence: whole('sequence', fields['sequence'], 0, MOST) }
    case 'cancel':
      return { type: 'cancel' }
    case 'late':
      return { type: 'late' }
    case 'lease':
      return { type: 'lease', remaining_ms: whole('remaining_ms', fields['remaining_ms'], 0, MOST) }
    default:
      return undefined
  }
}

/** Reads one line of an agent on a task stream; undefined for a type this end does not know. Throws `FieldError`. */
export function parseAgentTaskLine(line: string): AgentTaskLine | undefined {
  const fields = jsonObject('a task line', line)
  switch (fields['type']) {
    case 'attach':
      return {
        type: 'attach',
        ...parseAttemptName('', fields),
        tool_type: oneOf('tool_type', fields['tool_type'], TOOL_TYPES),
        last_sequence: whole('last_sequence', fields['last_sequence'], 0, MOST),
        state: oneOf('state', fields['state'], ['running', 'finished']),
        ...optional('expose_port', fields, exposePort),
      }
    case 'accepted':
      return { type: 'accepted', ...optional('expose_port', fields, exposePort) }
    case 'declined':
      return {
        type: 'declined',
        reason: oneOf('reason', fields['reason'], DECLINE_REASONS),
        message: prose('message', fields['message'], TASK_LIMITS.messageCharacters),
        ...optional('detail', fields, (path, raw) => prose(path, raw, TASK_LIMITS.nameCharacters)),
      }
    case 'event':
      return {
        type: 'event',
        sequence: whole('sequence', fields['sequence'], 1, MOST),
        event: attemptEvent(object('event', fields['event'])),
      }
    case 'finished':
      return {
        type: 'finished',
        sequence: whole('sequence', fields['sequence'], 1, MOST),
        outcome: attemptOutcome(object('outcome', fields['outcome'])),
      }
    case 'progress':
      return { type: 'progress', ...attemptProgress(fields) }
    case 'preview':
      return {
        type: 'preview',
        content_type: contentType('content_type', fields['content_type']),
        data: base64('data', fields['data']),
      }
    case 'cancelling':
      return { type: 'cancelling' }
    default:
      return undefined
  }
}

function assignLine(fields: JsonObject): AssignLine {
  const models = list('required_models', fields['required_models'], TASK_LIMITS.models)
  return {
    type: 'assign',
    ...parseAttemptName('', fields),
    tool_type: oneOf('tool_type', fields['tool_type'], TOOL_TYPES),
    workflow_slug: text('workflow_slug', fields['workflow_slug'], TASK_LIMITS.slugCharacters),
    workflow_version: whole('workflow_version', fields['workflow_version'], 1, MOST),
    workflow_json: boundedObject('workflow_json', fields['workflow_json'], TASK_LIMITS.jsonLevels),
    parameters: boundedObject('parameters', fields['parameters'], TASK_LIMITS.jsonLevels),
    files: list('files', fields['files'], TASK_LIMITS.files).map((file, index) =>
      assignedFile(`files[${index}]`, file),
    ),
    task_timeout_ms: whole('task_timeout_ms', fields['task_timeout_ms'], 0, MOST),
    resume_window_ms: whole('resume_window_ms', fields['resume_window_ms'], 0, MOST),
    required_models: models.map((name, index) => text(`required_models[${index}]`, name, TASK_LIMITS.nameCharacters)),
    ...optional('expose', fields, exposedService),
  }
}

function exposedService(path: string, raw: unknown): ExposedService {
  const service = object(path, raw)
  return {
    port: whole(`${path}.port`, service['port'], 0, 65_535),
    protocol: oneOf(`${path}.protocol`, service['protocol'], EXPOSED_PROTOCOLS),
  }
}

function exposePort(path: string, raw: unknown): number {
  return whole(path, raw, 1, 65_535)
}

function assignedFile(path: string, raw: unknown): AssignedFile {
  const file = object(path, raw)
  return {
    parameter: text(`${path}.parameter`, file['parameter'], TASK_LIMITS.nameCharacters),
    file_key: text(`${path}.file_key`, file['file_key'], TASK_LIMITS.nameCharacters),
    ...parseFileFacts(path, file),
  }
}

/** What is known of a file before its bytes come. */
export interface FileFacts {
  /** As its maker called it: never a path. */
  file_name: string
  content_type: string
  /** Bytes. */
  size: number
  /** Hex. */
  sha256: string
}

/** Reads what an object says of a file. Throws `FieldError`. */
export function parseFileFacts(path: string, fields: JsonObject): FileFacts {
  const name = prose(member(path, 'file_name'), fields['file_name'], TASK_LIMITS.nameCharacters)
  if (name === '') throw new FieldError(member(path, 'file_name'), 'a name')
  return {
    file_name: name,
    content_type: contentType(member(path, 'content_type'), fields['content_type']),
    size: whole(member(path, 'size'), fields['size'], 0, MOST),
    sha256: matching(member(path, 'sha256'), fields['sha256'], SHA256, '64 hex digits in lower case'),
  }
}

function attemptEvent(event: JsonObject): AttemptEvent {
  const kind = oneOf('event.kind', event['kind'], ['log', 'note', 'waiting_in_tool'])
  switch (kind) {
    case 'log': {
      const lines = list('event.lines', event['lines'], TASK_LIMITS.logLines)
      return { kind, lines: lines.map((line, index) => logLine(`event.lines[${index}]`, line)) }
    }
    case 'note':
      return { kind, message: prose('event.message', event['message'], TASK_LIMITS.messageCharacters) }
    default:
      return { kind, position: whole('event.position', event['position'], 0, MOST) }
  }
}

function logLine(path: string, raw: unknown): LogLine {
  const line = object(path, raw)
  return {
    stream: oneOf(`${path}.stream`, line['stream'], LOG_STREAMS),
    line: prose(`${path}.line`, line['line'], TASK_LIMITS.logLineCharacters),
    timestamp: text(`${path}.timestamp`, line['timestamp'], TASK_LIMITS.timestampCharacters),
  }
}

function attemptOutcome(outcome: JsonObject): AttemptOutcome {
  const kind = oneOf('outcome.kind', outcome['kind'], ['completed', 'failed', 'cancelled'])
  switch (kind) {
    case 'completed':
      return { kind, output: boundedObject('outcome.output', outcome['output'], TASK_LIMITS.jsonLevels) }
    case 'failed':
      return {
        kind,
        code: matching('outcome.code', outcome['code'], CODE, 'a snake_case code of at most 64 characters'),
        message: prose('outcome.message', outcome['message'], TASK_LIMITS.messageCharacters),
        fault: oneOf('outcome.fault', outcome['fault'], TASK_FAULTS),
      }
    default:
      return { kind }
  }
}

function attemptProgress(fields: JsonObject): AttemptProgress {
  const words = (path: string, raw: unknown): string => prose(path, raw, TASK_LIMITS.nameCharacters)
  const steps = (path: string, raw: unknown): number => whole(path, raw, 0, MOST)
  return {
    progress: share('progress', fields['progress']),
    ...optional('current_node', fields, words),
    ...optional('step_current', fields, steps),
    ...optional('step_total', fields, steps),
    ...optional('stage', fields, words),
    ...optional('message', fields, words),
  }
}

/** The member as `read` made it, or nothing where it is absent or null. */
function optional<K extends string, T>(
  key: K,
  fields: JsonObject,
  read: (path: string, raw: unknown) => T,
): { [name in K]?: T } {
  const raw = fields[key]
  return raw === undefined || raw === null ? {} : ({ [key]: read(key, raw) } as { [name in K]?: T })
}

function member(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`
}

function id(path: string, raw: unknown): string {
  return matching(path, raw, ID, `1 to ${TASK_LIMITS.idCharacters} letters, digits, dots, dashes or underscores`)
}

function contentType(path: string, raw: unknown): string {
  return text(path, raw, TASK_LIMITS.contentTypeCharacters)
}

function base64(path: string, raw: unknown): string {
  if (typeof raw !== 'string' || raw.length > TASK_LIMITS.previewCharacters || !BASE64.test(raw)) {
    throw new FieldError(path, `base64 of at most ${TASK_LIMITS.previewCharacters} characters`)
  }
  return raw
}
