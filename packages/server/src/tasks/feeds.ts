import { ApiError } from '@cyberun/api'
import type { Log } from '@cyberun/link/log'
import type { Bus } from '../bus.ts'
import type { Store } from '../store/store.ts'
import { eventCounts, readEvents } from '../store/task-events.ts'
import { getTask, type TaskRecord } from '../store/tasks.ts'
import type { ArtifactUrl } from './event-text.ts'
import { type EventFeed, TaskFeed } from './task-feed.ts'
import { isTerminalStatus, lastEventOf } from './task-view.ts'
import { type ReadEvents, TaskWatch } from './task-watch.ts'

/** Doorbells may be lost; nobody waits longer than this for what one should have announced. */
const SWEEP_MS = 1_000
/** One statement of the sweep asks for so many tasks. */
const SWEEP_TASKS = 500
/** Streams at once: each costs a socket and some buffers. */
const MAX_FEEDS = 10_000

export interface FeedsOptions {
  store: Store
  bus: Bus
  log: Log
  /** Milliseconds since 1970. */
  now(): number
  urlOf: ArtifactUrl
}

/** Everybody who follows a task. Watchers of one task share the reading of its events. */
export class Feeds {
  readonly #options: FeedsOptions
  readonly #watches = new Map<string, TaskWatch>()
  readonly #feeds = new Set<TaskFeed>()
  readonly #read: ReadEvents
  readonly #unsubscribe: readonly (() => void)[]
  readonly #timer: NodeJS.Timeout
  #sweeping: Promise<void> | undefined

  constructor(options: FeedsOptions) {
    const { store, bus } = options
    this.#options = options
    this.#read = (taskId, after, limit) => readEvents(store, taskId, after, limit)
    this.#unsubscribe = [
      bus.subscribe('task.changed', ({ taskId }) => this.#watches.get(taskId)?.refresh()),
      bus.subscribe('task.live', ({ taskId, event }) => this.#watches.get(taskId)?.show(event)),
    ]
    this.#timer = setInterval(() => {
      this.#sweeping ??= this.#sweep().finally(() => {
        this.#sweeping = undefined
      })
    }, SWEEP_MS)
  }

  get count(): number {
    return this.#feeds.size
  }

  /**
   * The events of a task after number `after`. Undefined when it has ended and there is none. Throws `ApiError`:
   * `not_found`, `unavailable` when too many follow already.
   */
  async open(teamId: string, taskId: string, after: number): Promise<EventFeed | undefined> {
    if (this.#feeds.size >= MAX_FEEDS) {
      throw new ApiError('unavailable', 'Too many follow tasks here already. Try again in a minute.', {
        retryAfterSeconds: 60,
      })
    }
    let task: TaskRecord | undefined
    // Before the task is read: what happens from then on is told to the watch.
    const feed = this.#newFeed(taskId, () => task && lastEventOf(task))
    try {
      task = await getTask(this.#options.store, teamId, taskId)
      if (!task) throw new ApiError('not_found', 'There is no such task in this team.')
      const isEnded = isTerminalStatus(task.status)
      const position = Math.min(after, task.eventCount)
      if (isEnded && position === task.eventCount) {
        feed.close()
        return undefined
      }
      feed.startAfter(position)
      const progress =
        task.status === 'running' && task.progress ? ({ kind: 'progress', ...task.progress } as const) : undefined
      this.#watches.get(taskId)?.start({ eventCount: task.eventCount, isEnded, progress }, position)
      return feed
    } catch (error) {
      feed.close()
      throw error
    }
  }

  /** Ends every stream; their readers come back to another server. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    for (const feed of this.#feeds) feed.close()
    await this.#sweeping
  }

  #newFeed(taskId: string, lostEnd: () => ReturnType<typeof lastEventOf>): TaskFeed {
    const { urlOf } = this.#options
    const watch = this.#watches.get(taskId) ?? this.#newWatch(taskId)
    const feed: TaskFeed = new TaskFeed({
      ...{ taskId, watch, urlOf, lostEnd },
      read: this.#read,
      onClose: () => {
        this.#feeds.delete(feed)
        if (watch.watcherCount === 0) this.#watches.delete(taskId)
      },
    })
    this.#feeds.add(feed)
    return feed
  }

  #newWatch(taskId: string): TaskWatch {
    const { log, now, urlOf } = this.#options
    const watch = new TaskWatch({
      ...{ taskId, now, urlOf },
      read: this.#read,
      onReadError: (error) => log.warn({ task_id: taskId, error }, 'task.unreadable'),
    })
    this.#watches.set(taskId, watch)
    return watch
  }

  /** Finds what a lost doorbell should have announced, and what could not be read before. */
  async #sweep(): Promise<void> {
    const taskIds = [...this.#watches.keys()]
    try {
      for (let from = 0; from < taskIds.length; from += SWEEP_TASKS) {
        const counts = await eventCounts(this.#options.store, taskIds.slice(from, from + SWEEP_TASKS))
        for (const [taskId, { eventCount }] of counts) {
          const watch = this.#watches.get(taskId)
          if (watch?.isBehind(eventCount)) watch.refresh()
        }
      }
    } catch (error) {
      // The store is out of reach: the next sweep asks again, and each call that needs it says so to its caller.
      this.#options.log.debug({ error }, 'feeds.sweep_failed')
    }
  }
}
