import { type Client, ClientError } from '@cyberun/api/client'
import type { Context } from '../context.ts'
import { CliError } from '../errors.ts'
import { isInteractive } from '../prompts.ts'
import { saveFile } from './save.ts'
import type { TaskView } from './view.ts'

export interface SavedFile {
  key: string
  path: string
}

/** How following a task ended. */
export type Followed =
  | { kind: 'ended'; status: 'completed' | 'failed' | 'cancelled'; error: string | undefined }
  /** Whoever watched has left; the task goes on. `asked`: they were asked and said so. */
  | { kind: 'detached'; asked: boolean }

/** Shows a task until it ends or its watcher leaves. `interrupted` is the watcher's Ctrl-C. */
export async function followTask(
  context: Context,
  client: Client,
  taskId: string,
  view: TaskView,
  interrupted: AbortSignal,
): Promise<Followed> {
  let after = 0
  let toldUrl: string | null = null
  /** A status with a message may say that the run's service can be reached; the address is the task's to tell. */
  const tellTunnel = async (): Promise<void> => {
    const { tunnel_url } = await client.call('GET /r/tasks/{id}', { params: { id: taskId } })
    if (tunnel_url !== null && tunnel_url !== toldUrl) view.note(`open: ${tunnel_url}`)
    toldUrl = tunnel_url
  }
  const watch = async (signal?: AbortSignal): Promise<Followed> => {
    const onCut = (error: ClientError) => view.note(`${error.message} Trying again.`)
    for await (const event of client.follow(taskId, { after, onCut }, signal)) {
      after = event.number ?? after
      view.show(event)
      if (event.event === 'status' && event.data.message !== undefined) await tellTunnel()
      switch (event.event) {
        case 'completed':
        case 'cancelled':
          return { kind: 'ended', status: event.event, error: undefined }
        case 'failed':
          return { kind: 'ended', status: 'failed', error: event.data.error }
        default:
      }
    }
    const { task_status, task_error } = await client.call('GET /r/tasks/{id}/result', { params: { id: taskId } })
    if (task_status === 'completed' || task_status === 'failed' || task_status === 'cancelled') {
      return { kind: 'ended', status: task_status, error: task_error ?? undefined }
    }
    throw new ClientError('bad_answer', 'The events of the task ended and the task did not.')
  }
  try {
    return await watch(interrupted)
  } catch (error) {
    if (!interrupted.aborted) throw error
    view.end()
  }
  if ((await howToLeave(context)) === 'detach') return { kind: 'detached', asked: isInteractive(context) }
  await client.call('POST /r/tasks/{id}/cancel', { params: { id: taskId } })
  return watch()
}

/** Another Ctrl-C at the question means to leave. Where nobody can be asked the task is left alone. */
async function howToLeave(context: Context): Promise<'cancel' | 'detach'> {
  if (!isInteractive(context)) return 'detach'
  const { isCancel, select } = await import('@clack/prompts')
  const answer = await select({
    message: 'The task is still running.',
    options: [
      { value: 'cancel' as const, label: 'Cancel it' },
      { value: 'detach' as const, label: 'Leave it running and stop watching' },
    ],
  })
  return isCancel(answer) ? 'detach' : answer
}

/** Saves every file of a completed task into `folder`. Throws a `CliError` when `signal` stops it. */
export async function saveResults(
  client: Client,
  taskId: string,
  folder: string,
  signal: AbortSignal,
): Promise<SavedFile[]> {
  try {
    return await saveAll(client, taskId, folder, signal)
  } catch (cause) {
    if (!signal.aborted) throw cause
    const message = `stopped; to save the files of the task: cyberun tasks files ${taskId}`
    throw new CliError('interrupted', 'interrupted', message, { cause })
  }
}

async function saveAll(client: Client, taskId: string, folder: string, signal: AbortSignal): Promise<SavedFile[]> {
  const names = await fileNames(client, taskId, signal)
  const { download_urls } = await client.call('GET /r/tasks/{id}/result', { params: { id: taskId } }, signal)
  const saved: SavedFile[] = []
  for (const [key, url] of Object.entries(download_urls ?? {})) {
    saved.push({ key, path: await saveFile(folder, { key, url, name: names.get(key) ?? key }, signal) })
  }
  return saved
}

/** What the files of a task are called: their events say, and those of a later attempt count. */
async function fileNames(client: Client, taskId: string, signal: AbortSignal): Promise<Map<string, string>> {
  const names = new Map<string, string>()
  for await (const { event, data } of client.follow(taskId, {}, signal)) {
    if (event === 'artifact') names.set(data.key, data.file_name)
  }
  return names
}
