import type { AgentTaskLine, AttemptProgress } from '@cyberun/protocol'
import type { TaskLiveEvent } from '../bus.ts'
import type { Attempt } from '../model/attempt.ts'
import { createLatest, type Latest } from './latest.ts'
import type { DispatchLimits } from './limits.ts'

export interface LiveHost {
  readonly limits: DispatchLimits
  now(): number
  onLive(attempt: Attempt, event: TaskLiveEvent): void
  /** At most once in `saveProgressMs`, with the latest. */
  onProgress(attempt: Attempt, progress: AttemptProgress): void
}

/** What an attempt shows of itself while it runs, thinned out: nothing of it is kept but the latest progress. */
export class LiveReports {
  readonly #progress: Latest<AttemptProgress>
  readonly #preview: Latest<TaskLiveEvent>
  readonly #saves: Latest<AttemptProgress>

  constructor(host: LiveHost, attempt: Attempt) {
    const { limits, now } = host
    const tell = (event: TaskLiveEvent): void => host.onLive(attempt, event)
    this.#progress = createLatest(limits.progressMs, now, (progress) => tell({ kind: 'progress', ...progress }))
    this.#preview = createLatest(limits.previewMs, now, tell)
    this.#saves = createLatest(limits.saveProgressMs, now, (progress) => host.onProgress(attempt, progress))
  }

  take(line: Extract<AgentTaskLine, { type: 'progress' | 'preview' }>): void {
    if (line.type === 'preview') {
      this.#preview.offer({ kind: 'preview', content_type: line.content_type, data: line.data })
      return
    }
    const { type: _, ...progress } = line
    this.#progress.offer(progress)
    this.#saves.offer(progress)
  }

  stop(): void {
    this.#progress.stop()
    this.#preview.stop()
    this.#saves.stop()
  }
}
