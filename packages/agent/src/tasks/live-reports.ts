import { type AgentTaskLine, type AttemptEvent, type AttemptProgress, TASK_LIMITS } from '@cyberun/protocol'
import type { Progress } from '../tools/tool.ts'
import { latestWins } from './latest.ts'
import type { RunLimits } from './limits.ts'
import { wellFormed } from './task-log.ts'

/** What is told of a run while it goes on, each latest wins. */
export interface LiveReports {
  progress(progress: Progress): void
  preview(contentType: string, bytes: Uint8Array): void
  waitingInTool(position: number): void
  /** Tells the last progress again, on a stream that has not heard it. */
  repeat(): void
  /** The run is over: tells what waits. */
  end(): void
  /** Tells nothing any more. */
  stop(): void
}

interface Teller {
  /** False when it could not be sent. */
  send(line: AgentTaskLine): boolean
  push(event: AttemptEvent): void
  note(message: string): void
}

/** `now` is monotonic. */
export function liveReports(teller: Teller, limits: RunLimits, now: () => number): LiveReports {
  let last: AttemptProgress | undefined
  let isTooLargeTold = false

  const progress = latestWins<AttemptProgress>(
    limits.progressMs,
    (value) => {
      last = value
      teller.send({ type: 'progress', ...value })
    },
    now,
  )
  const preview = latestWins<{ contentType: string; bytes: Uint8Array }>(
    limits.previewMs,
    ({ contentType, bytes }) => {
      teller.send({ type: 'preview', content_type: contentType, data: Buffer.from(bytes).toString('base64') })
    },
    now,
  )
  const waiting = latestWins<number>(
    limits.progressMs,
    (position) => teller.push({ kind: 'waiting_in_tool', position }),
    now,
  )

  return {
    progress(value) {
      if (!Number.isNaN(value.progress)) progress.offer(onWire(value))
    },
    preview(contentType, bytes) {
      if (bytes.length <= limits.previewBytes) preview.offer({ contentType, bytes })
      else if (!isTooLargeTold) {
        isTooLargeTold = true
        teller.note(`a preview of ${bytes.length} bytes is not shown: ${limits.previewBytes} is the most`)
      }
    },
    waitingInTool(position) {
      if (Number.isSafeInteger(position) && position >= 0) waiting.offer(position)
    },
    repeat() {
      if (last) teller.send({ type: 'progress', ...last })
    },
    end() {
      progress.flush()
      waiting.stop()
      preview.stop()
    },
    stop() {
      for (const one of [progress, waiting, preview]) one.stop()
    },
  }
}

function onWire(value: Progress): AttemptProgress {
  const words = (text: string | undefined): string | undefined =>
    text === undefined ? undefined : wellFormed(text, TASK_LIMITS.nameCharacters)
  const steps = (count: number | undefined): number | undefined =>
    count !== undefined && Number.isSafeInteger(count) && count >= 0 ? count : undefined
  const current = {
    current_node: words(value.currentNode),
    step_current: steps(value.stepCurrent),
    step_total: steps(value.stepTotal),
    stage: words(value.stage),
    message: words(value.message),
  }
  const known = Object.fromEntries(Object.entries(current).filter(([, one]) => one !== undefined))
  return { progress: Math.min(1, Math.max(0, value.progress)), ...known }
}
