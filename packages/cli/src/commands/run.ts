import { randomUUID } from 'node:crypto'
import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { TaskResult } from '@cyberun/api'
import { type Client, ClientError, mayMend } from '@cyberun/api/client'
import { connect } from '../connect.ts'
import { type Context, printResult } from '../context.ts'
import { CliError } from '../errors.ts'
import type { ExitName } from '../exit-codes.ts'
import { onInterrupt } from '../interrupt.ts'
import { followTask, type SavedFile, saveResults } from '../tasks/follow.ts'
import { type LocalFile, localFile } from '../tasks/local-file.ts'
import { checkFileKeys, type GivenValue, readPair, typedParameters } from '../tasks/parameters.ts'
import { makeOutputFolder } from '../tasks/save.ts'
import { uploadFile } from '../tasks/upload.ts'
import { createUploadMemory, type UploadMemory } from '../tasks/upload-memory.ts'
import { createTaskView, type TaskView } from '../tasks/view.ts'
import { printable } from '../text.ts'

export interface RunOptions {
  parameter?: string[]
  file?: string[]
  detach?: true
  output: string
  priority?: number
}

const SUBMIT_TRIES = 4

/** `cyberun run`. */
export async function runWorkflow(context: Context, slug: string, options: RunOptions): Promise<ExitName | undefined> {
  const given = (options.parameter ?? []).map((text) => readPair('--parameter', text))
  const files = await namedFiles(context, options.file ?? [])
  const folder = resolve(context.cwd, options.output)
  // A run may take hours: whether there is a place for what it makes is better known before.
  if (!options.detach) await makeOutputFolder(folder)
  const { client, account } = await connect(context, 'key')
  const interrupted = onInterrupt()
  const workflow = await client.call('GET /r/workflows/slug/{slug}', { params: { slug } }, interrupted)
  checkFileKeys(workflow.parameters, files)
  const view = createTaskView(context)
  const memory = createUploadMemory(context, account.controlUrl)
  const fileKeys = await uploadAll(client, memory, files, view, interrupted)
  const parameters = { ...typedParameters(workflow.parameters, given), ...fileKeys }
  const priority = options.priority === undefined ? {} : { priority: options.priority }
  const taskId = await submit(client, slug, { parameters, ...priority }, interrupted)
  if (options.detach) {
    printResult(context, { task_id: taskId }, () => `${printable(taskId)}\n`)
    return undefined
  }
  view.note(`task ${taskId}`)
  return watch(context, client, taskId, folder, view, interrupted)
}

/** Follows a task to its end and saves what it made. */
export async function watch(
  context: Context,
  client: Client,
  taskId: string,
  folder: string,
  view: TaskView,
  interrupted: AbortSignal,
): Promise<ExitName> {
  const followed = await followTask(context, client, taskId, view, interrupted).finally(() => view.end())
  if (followed.kind === 'detached') {
    view.note(`The task goes on. To follow it again: cyberun tasks events ${taskId}`)
    if (context.json) printResult(context, { task_id: taskId, task_status: null }, () => '')
    return followed.asked ? 'ok' : 'interrupted'
  }
  // A Ctrl-C that was answered with "cancel" is used up; the next one ends the process.
  const stopped = interrupted.aborted ? new AbortController().signal : interrupted
  const files = followed.status === 'completed' ? await saveResults(client, taskId, folder, stopped) : []
  const result = await client.call('GET /r/tasks/{id}/result', { params: { id: taskId } })
  printResult(context, resultForScripts(result, files), () => files.map(({ path }) => `${printable(path)}\n`).join(''))
  return followed.status === 'completed' ? 'ok' : 'task_failed'
}

function resultForScripts(result: TaskResult, files: readonly SavedFile[]) {
  const { id, task_status, task_output, task_error } = result
  return { task_id: id, task_status, task_output, task_error, file_list: files }
}

/** The files are looked at before anything is sent: a mistyped path should cost nothing. */
async function namedFiles(context: Context, texts: readonly string[]): Promise<(GivenValue & { file: LocalFile })[]> {
  return Promise.all(
    texts.map(async (text) => {
      const pair = readPair('--file', text)
      return { ...pair, file: await localFile(resolve(context.cwd, pair.text)) }
    }),
  )
}

async function uploadAll(
  client: Client,
  memory: UploadMemory,
  files: readonly (GivenValue & { file: LocalFile })[],
  view: TaskView,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const keys: Record<string, string> = {}
  for (const { key, text, file } of files) {
    const onProgress = (bytes: number) => view.transfer(text, bytes, file.size)
    try {
      keys[key] = await uploadFile(client, memory, file, onProgress, signal)
    } catch (error) {
      view.end()
      if (!signal.aborted) throw error
      const message = `stopped; the next run with ${text} goes on with its upload`
      throw new CliError('interrupted', 'interrupted', message, { cause: error })
    }
  }
  return keys
}

/** Submits once, however often it is said: the key makes a repetition after a lost answer the same task. */
async function submit(
  client: Client,
  slug: string,
  body: { parameters: Record<string, unknown>; priority?: number },
  signal: AbortSignal,
): Promise<string> {
  const headers = { 'idempotency-key': randomUUID() }
  for (let tries = 1; ; tries++) {
    try {
      const name = 'POST /r/workflows/slug/{slug}/run'
      return (await client.call(name, { params: { slug }, headers, body }, signal)).task_id
    } catch (error) {
      if (signal.aborted) throw new CliError('interrupted', 'interrupted', 'stopped before the task was submitted')
      if (!(error instanceof ClientError) || !isWorthATry(error) || tries === SUBMIT_TRIES) throw error
      await delay((error.retryAfterSeconds ?? tries) * 1000, undefined, { signal }).catch(() => {}) // the call tells
    }
  }
}

/** Whoever submits too much is told at once: how long to wait is theirs to decide. */
function isWorthATry(error: ClientError): boolean {
  return mayMend(error) && error.code !== 'rate_limited'
}
