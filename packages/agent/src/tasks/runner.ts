import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { Link, LinkStream } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import { AGENT_LIMITS, type AssignLine, type AttemptName } from '@cyberun/protocol'
import { inTime } from '../in-time.ts'
import type { PortRules } from '../ports.ts'
import type { Decline, Tool, ToolType } from '../tools/tool.ts'
import { assignmentOf } from './assignment.ts'
import { Attempt, type AttemptWorld } from './attempt.ts'
import { CurrentLink } from './current-link.ts'
import { freePort } from './free-port.ts'
import type { RunLimits } from './limits.ts'
import { AttemptFolder, readRecords } from './records.ts'
import { TaskStream } from './task-stream.ts'
import { Turns } from './transfers.ts'

export interface RunnerOptions {
  readonly tools: ReadonlyMap<ToolType, Tool>
  /** How many runs at once. */
  readonly slots: number
  readonly stateDir: string
  readonly limits: RunLimits
  /** Which ports tunnels may reach now. */
  tunnelPorts(): PortRules
  readonly log: Log
  /** Why this tool cannot be used at present, in a sentence; undefined when it can. */
  unhealthy(tool: ToolType): string | undefined
  /** Monotonic milliseconds. */
  now(): number
  /** The time of day in milliseconds. */
  wallMs(): number
  /** Free slots have changed in a way that the server does not know of. */
  onChange(): void
}

/** Takes assignments, runs them, and holds on to them over links. */
export interface Runner {
  /** Serves a stream of kind `task` that the server opened. */
  onStream(stream: LinkStream): void
  /** There is a new link: every attempt is told over it. */
  useLink(link: Link): void
  /** For the hello: what this agent still has. */
  attempts(): AttemptName[]
  freeSlots(): number
  /**
   * Takes nothing more, gives runs a moment to end by themselves, ends the others (those that can be taken up again are
   * left), and tells the server as long as the link lasts.
   */
  stop(): Promise<void>
}

/** Takes up what a former process left: runs that a tool finds again, and outcomes that were not acknowledged. */
export async function createRunner(options: RunnerOptions): Promise<Runner> {
  const { tools, slots, limits, log } = options
  const tasksDir = join(options.stateDir, 'tasks')
  const attempts = new Set<Attempt>()
  /** Assignments that are being looked at: each holds a slot already. */
  const asked = new Set<AssignLine>()
  const links = new CurrentLink()
  const stopping = new AbortController()
  const disk = watchDisk(options.stateDir, limits.freeDiskMs, options.now)
  let hidden = 0
  let toldNoSlot = false
  const world: AttemptWorld = {
    limits,
    log,
    links,
    tasksDir,
    turns: new Turns(limits.transfers),
    now: options.now,
    wallMs: options.wallMs,
    onChange: tellNews,
  }

  function freeSlots(): number {
    if (stopping.signal.aborted) return 0
    const held = [...attempts].filter((attempt) => attempt.holdsSlot).length
    // An attempt for which the hello has no place would count as lost.
    const places = AGENT_LIMITS.runningTasks - attempts.size
    return Math.max(0, Math.min(slots - held, places) - asked.size)
  }

  /**
   * The server counts what it gave. News for it are slots taken behind its back, and a free one after it was told that
   * there is none: it waits for that.
   */
  function tellNews(): void {
    const before = hidden
    hidden = [...attempts].filter(({ state, holdsSlot }) => holdsSlot && state !== 'running').length
    const isFreeAgain = toldNoSlot && freeSlots() > 0
    if (isFreeAgain) toldNoSlot = false
    if (isFreeAgain || hidden !== before) options.onChange()
  }

  function keep(attempt: Attempt): void {
    attempts.add(attempt)
    void attempt.gone.then(() => {
      attempts.delete(attempt)
      tellNews()
    })
  }

  async function restore(): Promise<void> {
    const tellStays = (error: unknown): void => log.warn({ error }, 'attempt.folder_stays')
    for (const record of await readRecords(tasksDir, tellStays)) {
      const { assign, left } = record
      const name = { task_id: assign.task_id, fence: assign.fence }
      const tool = tools.get(assign.tool_type)
      if (left) {
        const attempt = new Attempt(world, assign, record)
        attempt.reportLeft(left)
        keep(attempt)
      } else if (tool?.resume) {
        log.info(name, 'attempt.resumed')
        const attempt = new Attempt(world, assign, record)
        attempt.resume(tool.resume.bind(tool))
        keep(attempt)
      } else {
        // The server learns it from the hello, which does not name it.
        log.info(name, 'attempt.lost_in_restart')
        await new AttemptFolder(tasksDir, assign, true).remove().catch(tellStays)
      }
    }
  }

  async function assign(stream: TaskStream, line: AssignLine): Promise<void> {
    const decline = (why: Decline): void => {
      toldNoSlot ||= why.reason === 'no_slot'
      log.info({ task_id: line.task_id, fence: line.fence, reason: why.reason, hint: why.message }, 'attempt.declined')
      stream.send({ type: 'declined', ...why })
      stream.end()
    }
    const tool = tools.get(line.tool_type)
    if (!tool) return decline(noSuchTool(line.tool_type))
    for (const attempt of attempts) {
      // Not a thing a server does; a second run of one attempt would share its folder.
      if (attempt.name.task_id === line.task_id && attempt.name.fence === line.fence) return stream.end()
      if (attempt.name.task_id === line.task_id && attempt.name.fence < line.fence) {
        attempt.lose('the task was assigned once more')
      }
    }
    if (freeSlots() === 0) return decline({ reason: 'no_slot', message: 'All slots of the agent are taken.' })
    asked.add(line)
    try {
      const why = await reasonAgainst(tool, line)
      if (why) return decline(why)
      const isTaken = (port: number) => [...attempts].some(({ exposePort }) => exposePort === port)
      const exposed = await withPort(tool, line, () => freePort(options.tunnelPorts(), isTaken))
      if (!exposed) return decline(NO_PORT)
      // From here on nothing is waited for: `stop` and the loss of the stream would pass by what begins after them.
      if (stopping.signal.aborted) return decline({ reason: 'no_slot', message: 'The agent stops.' })
      // What nobody can be told of is given to somebody else once its acknowledgement is due.
      if (stream.isOver) return
      const attempt = new Attempt(world, exposed)
      log.info({ task_id: line.task_id, fence: line.fence, workflow: line.workflow_slug }, 'attempt.accepted')
      keep(attempt)
      attempt.begin(tool, stream)
    } catch (error) {
      log.error({ error, task_id: line.task_id }, 'attempt.not_taken')
      decline({ reason: 'tool_unhealthy', message: 'The agent could not prepare the run.' })
    } finally {
      asked.delete(line)
      tellNews()
    }
  }

  async function reasonAgainst(tool: Tool, line: AssignLine): Promise<Decline | undefined> {
    const unhealthy = options.unhealthy(tool.type)
    if (unhealthy !== undefined) return { reason: 'tool_unhealthy', message: unhealthy }
    if ((await disk.freeBytes()) < limits.freeDiskBytes) {
      return { reason: 'tool_unhealthy', message: 'The disk of the agent is nearly full.' }
    }
    return checkInTime(tool, line, limits.checkMs)
  }

  await restore()
  return {
    onStream(opened) {
      const stream = new TaskStream(
        opened,
        {
          onLine(line) {
            if (line.type !== 'assign') return
            stream.handle(UNTIL_TAKEN)
            void assign(stream, line)
          },
          onOver() {},
        },
        log,
      )
      opened.accept()
    },
    useLink(link) {
      links.use(link)
      for (const attempt of attempts) attempt.attach(link)
    },
    attempts: () => [...attempts].filter(({ state }) => state !== 'over').map(({ name }) => name),
    freeSlots,
    async stop() {
      stopping.abort()
      options.onChange()
      const running = () => [...attempts].filter(({ holdsSlot, outlivesAgent }) => holdsSlot && !outlivesAgent)
      const ended = Promise.all(running().map(({ gone }) => gone))
      if (running().length > 0) await inTime(ended, limits.stopGraceMs)
      const signal = AbortSignal.timeout(limits.stopKillMs + limits.stopAckMs)
      await Promise.all([...attempts].map((attempt) => attempt.stop(signal)))
    },
  }
}

/** While it is decided whether an assignment is taken, nothing else is expected on its stream. */
const UNTIL_TAKEN = { onLine() {}, onOver() {} }

const NO_PORT: Decline = {
  reason: 'not_allowed',
  message: "No free port of the agent's machine may be reached through tunnels: see tunnel_ports in its file.",
}

/** The assignment with the port its service is to use; undefined when there is none. */
async function withPort(
  tool: Tool,
  line: AssignLine,
  choose: () => Promise<number | undefined>,
): Promise<AssignLine | undefined> {
  const { expose } = line
  if (expose?.port !== 0) return line
  const port = tool.servicePort ?? (await choose())
  return port === undefined ? undefined : { ...line, expose: { ...expose, port } }
}

function noSuchTool(type: ToolType): Decline {
  return { reason: 'not_allowed', message: `The agent does not offer the tool ${type}.` }
}

/** A tool that does not answer in time is not in a state to run anything. */
async function checkInTime(tool: Tool, line: AssignLine, limitMs: number): Promise<Decline | undefined> {
  const signal = AbortSignal.timeout(limitMs)
  const tooLong = new Promise<Decline>((resolve) => {
    signal.addEventListener('abort', () =>
      resolve({ reason: 'tool_unhealthy', message: `The agent's ${tool.type} does not answer.` }),
    )
  })
  const asked = tool.check(assignmentOf(line), signal).catch((error: unknown): Decline => {
    const message = error instanceof Error ? error.message : String(error)
    return { reason: 'tool_unhealthy', message: `The agent's ${tool.type} could not be asked: ${message}` }
  })
  return Promise.race([asked, tooLong])
}

/** Free bytes of the disk that `path` is on, asked at most each `everyMs`. */
function watchDisk(path: string, everyMs: number, now: () => number): { freeBytes(): Promise<number> } {
  let known: Promise<number> | undefined
  let askedAt = 0
  return {
    freeBytes() {
      if (known === undefined || now() - askedAt >= everyMs) {
        askedAt = now()
        known = statfs(path).then(({ bavail, bsize }) => bavail * bsize)
      }
      return known
    },
  }
}
