import { TASK_LIMITS } from '@cyberun/protocol'
import { ArtifactError, InputError, type Outcome } from '../tools/tool.ts'
import type { RunLimits } from './limits.ts'
import { wellFormed } from './task-log.ts'

export const CANCELLED: Outcome = { kind: 'cancelled' }

/** The agent is stopped by its owner: another one may well do it. */
export const STOPPED: Outcome = {
  kind: 'failed',
  code: 'agent_stopped',
  message: 'The agent was stopped during the run.',
  fault: 'infrastructure',
}

export const LOST_ON_RESTART: Outcome = {
  kind: 'failed',
  code: 'agent_restarted',
  message: 'The run did not survive a restart of the agent.',
  fault: 'infrastructure',
}

/** What an error that a run threw means for the task. */
export function failureOf(error: unknown): Outcome {
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof InputError) return { kind: 'failed', code: 'input_unavailable', message, fault: 'client' }
  if (error instanceof ArtifactError) {
    // The same file would be refused again; a full store may have room, and another agent's bytes may arrive whole.
    const fault = error.code === 'too_large' ? 'client' : error.code === 'no_space' ? 'infrastructure' : 'tool'
    return { kind: 'failed', code: `artifact_${error.code}`, message, fault }
  }
  if (isFullDisk(error)) return { kind: 'failed', code: 'agent_disk_full', message, fault: 'infrastructure' }
  return { kind: 'failed', code: 'tool_failed', message, fault: 'tool' }
}

/** The outcome as the wire takes it: within its bounds, and writable as JSON. */
export function fitOutcome(outcome: Outcome, limits: Pick<RunLimits, 'outputBytes'>): Outcome {
  switch (outcome.kind) {
    case 'cancelled':
      return outcome
    case 'failed':
      return {
        kind: 'failed',
        code: CODE.test(outcome.code) ? outcome.code : 'tool_failed',
        message: wellFormed(outcome.message, TASK_LIMITS.messageCharacters),
        fault: outcome.fault,
      }
    case 'completed': {
      const bytes = jsonBytes(outcome.output)
      if (bytes !== undefined && bytes <= limits.outputBytes) return outcome
      const message =
        bytes === undefined
          ? 'The output of the run cannot be written as JSON.'
          : `The output of the run has ${bytes} bytes as JSON, and ${limits.outputBytes} is the most: save it to a file.`
      return { kind: 'failed', code: 'output_too_large', message, fault: 'client' }
    }
  }
}

const CODE = /^[a-z][a-z0-9_]{0,63}$/

function jsonBytes(value: unknown): number | undefined {
  try {
    return Buffer.byteLength(JSON.stringify(value))
  } catch {
    // A circle, or a number that JSON has no form for.
    return undefined
  }
}

function isFullDisk(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')
}
