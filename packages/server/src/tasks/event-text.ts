import type { TaskEvent } from '@cyberun/api'
import { unreachable } from '@cyberun/protocol'
import type { TaskLiveEvent } from '../bus.ts'
import type { RecordedEvent } from '../store/task-events.ts'

/**
 * Events as they stand in a `text/event-stream` (WHATWG HTML, section 9.2). Their data is JSON in one line, so no text
 * of a log or a tool can end an event or begin another.
 */

/** Whether nothing comes after it. */
export function isTerminal({ event: { kind } }: RecordedEvent): boolean {
  return kind === 'completed' || kind === 'failed' || kind === 'cancelled'
}

/** Where a committed artifact can be fetched now, and until when (milliseconds since 1970). */
export type ArtifactUrl = (artifactId: string) => { url: string; expiresAt: number }

/** A stored event has its number as its id: what a client sends back in `Last-Event-ID`. */
export function encodeStored(taskId: string, recorded: RecordedEvent, urlOf: ArtifactUrl): Uint8Array {
  return encode(storedEvent(taskId, recorded, urlOf), recorded.number)
}

/** Live events have no id: a client that comes back gets the latest, not what it missed. */
export function encodeLive(taskId: string, live: TaskLiveEvent, at: number): Uint8Array {
  switch (live.kind) {
    case 'progress': {
      const { kind: event, ...progress } = live
      return encode({ event, data: { task_id: taskId, ...progress, timestamp: time(at) } })
    }
    case 'preview': {
      const { kind: event, ...preview } = live
      return encode({ event, data: { task_id: taskId, ...preview } })
    }
    default:
      return unreachable(live)
  }
}

/** Says that the events `from` to `to` are past retention. */
export function encodeGap(gap: { from: number; to: number }): Uint8Array {
  return encode({ event: 'gap', data: gap })
}

function storedEvent(taskId: string, { at, event }: RecordedEvent, urlOf: ArtifactUrl): TaskEvent {
  const task_id = taskId
  switch (event.kind) {
    case 'status': {
      const { kind, ...said } = event
      return { event: kind, data: { task_id, ...said, timestamp: time(at) } }
    }
    case 'log': {
      const { kind, ...said } = event
      return { event: kind, data: { task_id, ...said } }
    }
    case 'artifact': {
      const { kind, artifact_id, ...said } = event
      return { event: kind, data: { task_id, ...said, download_url: urlOf(artifact_id).url } }
    }
    case 'completed':
      return { event: 'completed', data: { task_id, status: 'completed', output: event.output } }
    case 'failed':
      return { event: 'failed', data: { task_id, status: 'failed', error: event.error } }
    case 'cancelled':
      return { event: 'cancelled', data: { task_id, status: 'cancelled' } }
    default:
      return unreachable(event)
  }
}

function encode({ event, data }: TaskEvent, id?: number): Uint8Array {
  const head = id === undefined ? '' : `id: ${id}\n`
  return Buffer.from(`${head}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)
}

const time = (ms: number): string => new Date(ms).toISOString()
