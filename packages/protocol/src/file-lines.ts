import { jsonObject, oneOf, prose, text } from './fields.ts'
import type { JsonObject } from './model.ts'
import { type AttemptName, type FileFacts, parseAttemptName, parseFileFacts, TASK_LIMITS } from './task-lines.ts'

/**
 * The lines that begin and answer streams of kind `artifact` and `input` (docs/protocol.md, "Files of a task"). The bytes
 * follow the first line on the same stream.
 */

/** Bound of each of these lines, in bytes. */
export const FILE_LINE_BYTES = 16 * 1024

/** The first line of an artifact stream; exactly `size` bytes follow it. */
export interface ArtifactHeader extends AttemptName, FileFacts {
  /** Names the file in the task: `9.images.0`. */
  key: string
}

/**
 * `late`: the attempt is no longer this agent's. `too_large`: beyond the server's bound. `hash_mismatch`: other bytes
 * came than were announced. `no_space`: the server's store is full. `invalid`: the message says what.
 */
export const ARTIFACT_REFUSALS = ['late', 'too_large', 'hash_mismatch', 'no_space', 'invalid'] as const
export type ArtifactRefusal = (typeof ARTIFACT_REFUSALS)[number]

/** The server's one line on an artifact stream. */
export type ArtifactAnswer =
  | { type: 'stored'; artifact_id: string }
  | { type: 'refused'; code: ArtifactRefusal; message: string }

/** The first line of an input stream. */
export interface InputRequest extends AttemptName {
  file_key: string
}

/** `late`: as above. `not_found`: no such file, or not of this task. `invalid`: the message says what. */
export const INPUT_REFUSALS = ['late', 'not_found', 'invalid'] as const
export type InputRefusal = (typeof INPUT_REFUSALS)[number]

/** The server's line on an input stream; after `file` its bytes follow. */
export type InputAnswer = ({ type: 'file' } & FileFacts) | { type: 'refused'; code: InputRefusal; message: string }

/** Reads the first line of an artifact stream. Throws `FieldError`. */
export function parseArtifactHeader(line: string): ArtifactHeader {
  const fields = jsonObject('the first line', line)
  return {
    ...parseAttemptName('', fields),
    key: text('key', fields['key'], TASK_LIMITS.nameCharacters),
    ...parseFileFacts('', fields),
  }
}

/** Reads the answer on an artifact stream. Throws `FieldError`. */
export function parseArtifactAnswer(line: string): ArtifactAnswer {
  const fields = jsonObject('the answer', line)
  const type = oneOf('type', fields['type'], ['stored', 'refused'])
  if (type === 'refused') return { type, ...refusal(fields, ARTIFACT_REFUSALS) }
  return { type, artifact_id: text('artifact_id', fields['artifact_id'], TASK_LIMITS.idCharacters) }
}

/** Reads the first line of an input stream. Throws `FieldError`. */
export function parseInputRequest(line: string): InputRequest {
  const fields = jsonObject('the first line', line)
  return {
    ...parseAttemptName('', fields),
    file_key: text('file_key', fields['file_key'], TASK_LIMITS.nameCharacters),
  }
}

/** Reads the answer on an input stream. Throws `FieldError`. */
export function parseInputAnswer(line: string): InputAnswer {
  const fields = jsonObject('the answer', line)
  const type = oneOf('type', fields['type'], ['file', 'refused'])
  return type === 'refused' ? { type, ...refusal(fields, INPUT_REFUSALS) } : { type, ...parseFileFacts('', fields) }
}

function refusal<T extends string>(fields: JsonObject, codes: readonly T[]): { code: T; message: string } {
  return {
    code: oneOf('code', fields['code'], codes),
    message: prose('message', fields['message'], TASK_LIMITS.messageCharacters),
  }
}
