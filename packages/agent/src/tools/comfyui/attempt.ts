import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Outcome, Run } from '../tool.ts'
import { type Ending, type HistoryEntry, readEnding } from './answers.ts'
import { deliverOutputs } from './deliver.ts'
import { OutputGone } from './download.ts'
import { EarlyNews } from './early-news.ts'
import type { Engine } from './engine.ts'
import { type Graph, modelsOf, readGraph, rewriteGraph } from './graph.ts'
import { ComfyuiRefusal, ComfyuiSilence } from './http.ts'
import { placeInputs } from './inputs.ts'
import { asObject, asText } from './json.ts'
import { PictureWriter } from './pictures.ts'
import { isLeft, type Verdict, type WatchHandlers, watchPrompt } from './prompt-watch.ts'
import { describeFailure, explainRefusal, judgeFailure } from './refusals.ts'
import { RunProgress } from './run-progress.ts'
import type { SocketNews } from './socket.ts'
import { submitPrompt } from './submit.ts'

/** The node that gives its pictures to the socket, and to nobody else. */
const SOCKET_SAVER = 'SaveImageWebsocket'
/** Less free video memory than this share, and models of another family are unloaded first. */
const SHORT_OF_MEMORY = 0.25
const FREE_MS = 100

const CANCELLED: Outcome = { kind: 'cancelled' }

/** What one run after the other leaves behind in ComfyUI. */
export interface EngineMemory {
  /** The models that the last run loaded. */
  models: readonly string[]
}

/** One attempt at a task on one ComfyUI: from the graph to files that the server has. */
export class ComfyuiAttempt {
  readonly #engine: Engine
  readonly #run: Run
  readonly #signal: AbortSignal
  readonly #memory: EngineMemory
  readonly #folder: string
  #promptId: string | undefined
  #isRunning = false
  #progressIsLost = false
  /** The socket has told that the worker is done with the prompt, after everything else of it. */
  #isAllTold = false

  /** It is this attempt's turn. `signal` is the first step of the cancel ladder. */
  constructor(engine: Engine, run: Run, memory: EngineMemory, signal: AbortSignal) {
    this.#engine = engine
    this.#run = run
    this.#memory = memory
    this.#signal = signal
    const name = `${run.assignment.taskId}-${run.assignment.fence}`
    this.#folder = `cyberun/${name.replace(/[^\w-]/g, '_')}`
  }

  async start(): Promise<Outcome> {
    const graph = readGraph(this.#run.assignment.workflow)
    if (typeof graph === 'string') return failed('invalid_workflow', graph, 'client')
    return this.#settled(async () => {
      const inputs = await placeInputs(this.#engine, this.#run, this.#folder, this.#signal)
      await this.#makeRoom(graph)
      const rewritten = rewriteGraph(this.#run.assignment.workflow, { folder: this.#folder, inputs })
      await this.#awaitSocket()
      const repairs = new Set<Repair>()
      for (;;) {
        const pictures = new PictureWriter(this.#run.outputFolder)
        const promptId = randomUUID()
        // On disk before ComfyUI has it: whatever dies in between, the next life knows what to look for.
        await this.#remember(promptId)
        if (this.#signal.aborted) return CANCELLED
        using early = new EarlyNews(this.#engine.socket)
        // Not to be cut off by a cancellation: then nobody would know whether ComfyUI has the prompt.
        const submitted = await submitPrompt(this.#engine, rewritten, promptId, new AbortController().signal)
        if (submitted.kind === 'refused') return submitted.outcome
        if (submitted.promptId !== promptId) await this.#remember(submitted.promptId)
        const verdict = await this.#watch(graph, submitted.promptId, pictures, early)
        const concluded = await this.#conclude(verdict, graph, pictures, repairs)
        if (!('repair' in concluded)) return concluded
        repairs.add(concluded.repair)
      }
    })
  }

  /** Takes up what a former process of this agent began; undefined when ComfyUI does not know of it. */
  async resume(): Promise<Outcome | undefined> {
    const remembered = this.#run.remembered
    const outcome = asObject(remembered?.['output'])
    if (outcome !== undefined) return { kind: 'completed', output: outcome }
    const promptId = asText(remembered?.['prompt_id'])
    const graph = readGraph(this.#run.assignment.workflow)
    if (promptId === undefined || typeof graph === 'string') return undefined
    this.#promptId = promptId
    let isLost = false
    const settled = await this.#settled(async () => {
      this.#tellProgressIsLost()
      const pictures = new PictureWriter(this.#run.outputFolder)
      const verdict = await this.#watch(graph, promptId, pictures)
      isLost = verdict.kind === 'lost'
      const concluded = await this.#conclude(verdict, graph, pictures, new Set<Repair>(REPAIRS))
      return 'repair' in concluded ? CANCELLED : concluded
    })
    return isLost ? undefined : settled
  }

  /** Maps what goes wrong on the way to ComfyUI, and cleans up, whichever way it ends. */
  async #settled(work: () => Promise<Outcome>): Promise<Outcome> {
    try {
      const outcome = await work()
      // Cancelled while the last file was on its way: the server has decided already.
      return this.#signal.aborted ? CANCELLED : outcome
    } catch (error) {
      if (this.#signal.aborted) return CANCELLED
      if (error instanceof ComfyuiSilence) {
        this.#engine.doubt()
        return failed('comfyui_unreachable', `${error.message}.`, 'infrastructure')
      }
      if (error instanceof ComfyuiRefusal) return explainRefusal(error)
      if (error instanceof OutputGone) return failed('output_missing', `${error.message}.`, 'tool')
      throw error
    } finally {
      if (!isLeft(this.#signal)) await this.#cleanUp()
    }
  }

  async #remember(promptId: string): Promise<void> {
    this.#promptId = promptId
    await this.#run.remember({ prompt_id: promptId })
  }

  async #watch(graph: Graph, promptId: string, pictures: PictureWriter, early?: EarlyNews): Promise<Verdict> {
    const progress = new RunProgress(graph)
    const steps = { asked: this.#signal, again: this.#run.again, kill: this.#run.kill }
    this.#isRunning = false
    this.#isAllTold = false
    if (this.#engine.socket.clientId === undefined) this.#tellProgressIsLost()
    const handlers: WatchHandlers = {
      onNews: (news) => this.#take(news, graph, progress, pictures),
      onPosition: (position) => {
        this.#isRunning = position === 0
        if (position > 0) this.#run.waitingInTool(position)
      },
      hasAll: () => this.#isAllTold || this.#progressIsLost || !graphNeedsSocket(graph),
    }
    return watchPrompt(this.#engine, promptId, steps, handlers, early?.take())
  }

  #take(news: SocketNews, graph: Graph, progress: RunProgress, pictures: PictureWriter): void {
    switch (news.kind) {
      case 'closed':
        this.#tellProgressIsLost()
        return
      case 'log':
        // It is the log of the whole ComfyUI: only what it says while it works for us.
        if (this.#isRunning) for (const line of news.lines) this.#run.log('stdout', line)
        return
      case 'picture': {
        // Plain frames do not say whose they are: one prompt runs at a time, so it is the current node's.
        const node = news.node ?? progress.current
        if (node !== undefined && graph.get(node)?.classType === SOCKET_SAVER) {
          pictures.take(node, news.contentType, news.bytes)
        } else this.#run.preview(news.contentType, news.bytes)
        return
      }
      default: {
        if (news.kind === 'started' || news.kind === 'executing') this.#isRunning = true
        if (news.kind === 'executing' && news.node === undefined) this.#isAllTold = true
        const report = news.kind === 'opened' ? undefined : progress.take(news)
        if (report !== undefined) this.#run.progress(report)
      }
    }
  }

  async #conclude(
    verdict: Verdict,
    graph: Graph,
    pictures: PictureWriter,
    repairs: ReadonlySet<Repair>,
  ): Promise<Outcome | { readonly repair: Repair }> {
    if (this.#signal.aborted) return CANCELLED
    switch (verdict.kind) {
      case 'cancelled':
        return CANCELLED
      case 'lost':
        this.#engine.doubt()
        return failed('engine_lost', verdict.reason, 'infrastructure')
      case 'stuck':
        await this.#engine.restart(verdict.reason, 'idle')
        return failed('engine_stuck', verdict.reason, 'infrastructure')
      case 'finished':
        return this.#finish(verdict.entry, readEnding(verdict.entry), graph, pictures, repairs)
    }
  }

  async #finish(
    entry: HistoryEntry,
    ending: Ending,
    graph: Graph,
    pictures: PictureWriter,
    repairs: ReadonlySet<Repair>,
  ): Promise<Outcome | { readonly repair: Repair }> {
    switch (ending.kind) {
      case 'interrupted':
        return failed('comfyui_interrupted', 'Somebody else interrupted the run in ComfyUI.', 'infrastructure')
      case 'error':
        return this.#repairOrFail(ending, repairs)
      case 'success':
        if (graphNeedsSocket(graph) && !this.#isAllTold) {
          return failed(
            'output_lost',
            `The socket broke over which ${SOCKET_SAVER} sends its pictures.`,
            'infrastructure',
          )
        }
        try {
          const output = await deliverOutputs(this.#engine, this.#run, graph, entry, pictures, this.#signal)
          await this.#run.remember({ prompt_id: this.#promptId ?? '', output })
          return { kind: 'completed', output }
        } catch (error) {
          if (!(error instanceof OutputGone) || repairs.has('cache')) throw error
          // ComfyUI took the node from its cache, with a file that somebody deleted since.
          this.#run.note(`${error.message}: run again with an empty cache.`)
          await this.#free({ unload_models: false, free_memory: true })
          return { repair: 'cache' }
        }
    }
  }

  async #repairOrFail(
    { failure }: Extract<Ending, { kind: 'error' }>,
    repairs: ReadonlySet<Repair>,
  ): Promise<Outcome | { readonly repair: Repair }> {
    const what = describeFailure(failure)
    for (const line of failure.traceback.flatMap((entry) => entry.trimEnd().split('\n'))) this.#run.log('stderr', line)
    switch (judgeFailure(failure)) {
      case 'out_of_memory':
        if (repairs.has('memory')) return failed('out_of_memory', `${what}.`, 'tool')
        this.#run.note(`${what}: run once more with all models unloaded.`)
        await this.#free({ unload_models: true, free_memory: true })
        return { repair: 'memory' }
      case 'gpu_fault':
        // Nothing that runs in this process from now on will succeed.
        await this.#engine.restart(what, 'restart')
        return failed('gpu_fault', `${what}.`, 'infrastructure')
      case 'node':
        return failed('node_failed', `${what}.`, 'tool')
    }
  }

  /** Unloads what the last run left when this one needs other models and little memory is free. */
  async #makeRoom(graph: Graph): Promise<void> {
    const models = modelsOf(graph)
    const before = this.#memory.models
    if (models.length > 0) this.#memory.models = models
    if (models.length === 0 || before.length === 0 || models.some((model) => before.includes(model))) return
    const { vramFree, vramTotal } = await this.#engine.http.stats(this.#signal)
    if (vramFree >= vramTotal * SHORT_OF_MEMORY) return
    await this.#free({ unload_models: true, free_memory: false })
  }

  /** The worker does it when it wakes; a prompt that comes before that would be run first. */
  async #free(what: { unload_models: boolean; free_memory: boolean }): Promise<void> {
    await this.#engine.http.free(what, this.#signal)
    await pause(FREE_MS, undefined, { signal: this.#signal })
  }

  async #awaitSocket(): Promise<void> {
    const { socket, times } = this.#engine
    if (socket.clientId !== undefined) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, times.socketMs)
      const stop = socket.listen((news) => news.kind === 'opened' && done())
      function done(): void {
        clearTimeout(timer)
        stop()
        resolve()
      }
    })
  }

  #tellProgressIsLost(): void {
    if (!this.#progressIsLost)
      this.#run.note('Progress is not available until the run ends: ComfyUI closed its socket.')
    this.#progressIsLost = true
  }

  /** Leaves nothing of the task in ComfyUI; what cannot be removed is not worth failing for. */
  async #cleanUp(): Promise<void> {
    const { settings, http, log } = this.#engine
    if (settings.keep_files) return
    const tell = (error: unknown) =>
      log.debug({ error, task_id: this.#run.assignment.taskId }, 'comfyui.cleanup_failed')
    if (this.#promptId !== undefined) await http.forget(this.#promptId, new AbortController().signal).catch(tell)
    if (settings.folder === undefined) return
    for (const kind of ['input', 'output']) {
      await rm(join(settings.folder, kind, this.#folder), { recursive: true, force: true }).catch(tell)
    }
  }
}

/** What is tried once before a run fails. */
type Repair = 'memory' | 'cache'
const REPAIRS: readonly Repair[] = ['memory', 'cache']

function graphNeedsSocket(graph: Graph): boolean {
  return [...graph.values()].some(({ classType }) => classType === SOCKET_SAVER)
}

function failed(code: string, message: string, fault: Extract<Outcome, { kind: 'failed' }>['fault']): Outcome {
  return { kind: 'failed', code, message, fault }
}
