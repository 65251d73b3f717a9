import { resolve } from 'node:path'
import type { TaskView } from '@cyberun/api'
import { connect } from '../connect.ts'
import { type Context, printResult } from '../context.ts'
import type { ExitName } from '../exit-codes.ts'
import { onInterrupt } from '../interrupt.ts'
import { table } from '../table.ts'
import { saveResults } from '../tasks/follow.ts'
import { makeOutputFolder } from '../tasks/save.ts'
import { createTaskView, eventLines } from '../tasks/view.ts'
import { formatAge, printable, printableJson } from '../text.ts'
import { watch } from './run.ts'

export interface ListTasksOptions {
  status?: TaskView['task_status']
  limit: number
}

/** `cyberun tasks list`: the newest first. */
export async function listTasks(context: Context, { status, limit }: ListTasksOptions): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const query = { per_page: limit, ...(status !== undefined && { status }) }
  const { task_list, page_meta } = await client.call('GET /r/tasks', { query })
  printResult(context, { task_list, page_meta }, () => {
    if (task_list.length === 0 && status !== undefined) return `No task is ${status}.\n`
    if (task_list.length === 0) return 'No tasks. Submit one: cyberun run demo-fractal\n'
    const anyWaits = task_list.some((task) => task.waiting_reason !== null)
    const rows = task_list.map((task) => [
      task.id,
      task.workflow_slug,
      task.task_status,
      task.progress === null ? '-' : `${Math.floor(task.progress * 100)} %`,
      task.agent_id ?? '-',
      formatAge(task.created_at, context.now()),
      ...(anyWaits ? [waitsFor(task)] : []),
    ])
    const names = ['TASK', 'WORKFLOW', 'STATUS', 'PROGRESS', 'AGENT', 'SUBMITTED', ...(anyWaits ? ['WAITS FOR'] : [])]
    return table(names, rows)
  })
}

function waitsFor({ queue_position, waiting_reason }: TaskView): string {
  const place = queue_position === null ? '' : `place ${queue_position}: `
  return waiting_reason === null ? '' : place + waiting_reason
}

/** `cyberun tasks show`. */
export async function showTask(context: Context, id: string): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const task = await client.call('GET /r/tasks/{id}', { params: { id } })
  const result = await client.call('GET /r/tasks/{id}/result', { params: { id } })
  const { task_output, download_urls, expires_at } = result
  printResult(context, { ...task, task_output, download_urls, expires_at }, () => {
    const facts: [string, string | null][] = [
      ['task', task.id],
      ['workflow', `${task.workflow_slug}@${task.workflow_version}`],
      ['status', task.task_status],
      ['waits for', task.waiting_reason],
      ['queue position', task.queue_position === null ? null : String(task.queue_position)],
      ['progress', task.progress === null ? null : `${Math.floor(task.progress * 100)} %`],
      ['agent', task.agent_id],
      ['retries', task.retry_count === 0 ? null : String(task.retry_count)],
      ['submitted', formatAge(task.created_at, context.now())],
      ['started', task.started_at && formatAge(task.started_at, context.now())],
      ['ended', task.completed_at && formatAge(task.completed_at, context.now())],
      ['error', task.task_error],
      ['tunnel', task.tunnel_url],
      ...Object.keys(download_urls ?? {}).map((key): [string, string] => ['file', key]),
    ]
    const lines = facts.flatMap(([name, value]) => (value === null ? [] : [`${name}: ${printable(value)}\n`]))
    const save = download_urls === null ? '' : `To save its files: cyberun tasks files ${printable(id)}\n`
    return lines.join('') + save
  })
}

/** `cyberun tasks cancel`. */
export async function cancelTask(context: Context, id: string): Promise<undefined> {
  const { client } = await connect(context, 'key')
  await client.call('POST /r/tasks/{id}/cancel', { params: { id } })
  const { task_status } = await client.call('GET /r/tasks/{id}', { params: { id } })
  printResult(context, { task_id: id, task_status }, () => `${printable(id)} is ${task_status}.\n`)
}

/** `cyberun tasks files`. */
export async function saveTaskFiles(context: Context, id: string, options: { output: string }): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const { task_status } = await client.call('GET /r/tasks/{id}', { params: { id } })
  const folder = resolve(context.cwd, options.output)
  const files = task_status === 'completed' ? await saveResults(client, id, folder, onInterrupt()) : []
  printResult(context, { task_id: id, task_status, file_list: files }, () => {
    if (task_status !== 'completed') return `The task is ${task_status}: only a completed one has files.\n`
    return files.length === 0 ? 'It made no files.\n' : files.map(({ path }) => `${printable(path)}\n`).join('')
  })
}

/** `cyberun tasks events`: everything that happened, then what happens, one line each. */
export async function followEvents(
  context: Context,
  id: string,
  options: { after: number; output?: string },
): Promise<ExitName> {
  const { client } = await connect(context, 'key')
  const interrupted = onInterrupt()
  if (options.output !== undefined) {
    const folder = resolve(context.cwd, options.output)
    await makeOutputFolder(folder)
    return watch(context, client, id, folder, createTaskView(context), interrupted)
  }
  const stop = AbortSignal.any([interrupted, context.unread])
  let exit: ExitName = 'ok'
  try {
    for await (const event of client.follow(id, { after: options.after }, stop)) {
      const { number, ...named } = event
      if (context.json) context.stdout.write(`${printableJson({ id: number ?? null, ...named })}\n`)
      else for (const line of eventLines(event)) context.stdout.write(`${printable(line)}\n`)
      if (event.event === 'failed' || event.event === 'cancelled') exit = 'task_failed'
    }
  } catch (error) {
    if (!stop.aborted) throw error
    return 'interrupted'
  }
  return exit
}
