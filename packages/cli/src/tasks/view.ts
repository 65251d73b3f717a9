import type { TaskEvent } from '@cyberun/api'
import { unreachable } from '@cyberun/protocol'
import { type Context, printNote } from '../context.ts'
import { formatBytes, printable } from '../text.ts'
import { bar, LiveArea } from './live-area.ts'
import { pictureProtocol } from './picture.ts'

/** Shows a person what happens to a task while it happens. */
export interface TaskView {
  show(event: TaskEvent): void
  /** One line that stays. */
  note(line: string): void
  /** How far an upload is. */
  transfer(name: string, bytes: number, total: number): void
  end(): void
}

/** Of a terminal the foot, redrawn; elsewhere lines on stderr; with `--json` nothing at all. */
export function createTaskView(context: Context): TaskView {
  if (context.json) return { show() {}, note() {}, transfer() {}, end() {} }
  return context.stderr.isTTY ? terminalView(context) : plainView(context)
}

function terminalView(context: Context): TaskView {
  const area = new LiveArea(context.stderr, pictureProtocol(context.env))
  let told = false
  const note = (line: string) => area.print(`${printable(line)}\n`)
  return {
    note,
    show(event) {
      if (event.event === 'progress') area.update(`${bar(event.data.progress)} ${printable(stepText(event.data))}`)
      else if (event.event === 'preview') {
        const isShown = area.show(event.data.content_type, event.data.data)
        if (!isShown && !told) note(previewText(event.data))
        told = true
      } else for (const line of eventLines(event)) note(line)
    },
    transfer(name, bytes, total) {
      const share = total === 0 ? 1 : bytes / total
      area.update(`${bar(share)} ${printable(name)} ${formatBytes(bytes)} of ${formatBytes(total)}`)
      if (bytes >= total) area.end()
    },
    end: () => area.end(),
  }
}

/** Where nothing can be redrawn, each tenth of the way is a line. */
function plainView(context: Context): TaskView {
  let tenth = 0
  let told = false
  const note = (line: string) => printNote(context, line)
  return {
    note,
    show(event) {
      if (event.event === 'progress') {
        const reached = Math.floor(event.data.progress * 10)
        if (reached > tenth) note(`progress: ${reached * 10} % ${stepText(event.data)}`.trimEnd())
        tenth = reached
      } else if (event.event === 'preview') {
        if (!told) note(previewText(event.data))
        told = true
      } else for (const line of eventLines(event)) note(line)
    },
    transfer(name, bytes, total) {
      if (bytes >= total) note(`uploaded: ${name}, ${formatBytes(total)}`)
    },
    end() {},
  }
}

/** What a stored event says, one line each. */
export function eventLines({ event, data }: TaskEvent): string[] {
  switch (event) {
    case 'status':
      return [data.message === undefined ? data.status : `${data.status}: ${data.message}`]
    case 'log':
      return [`${data.stream === 'stderr' ? '!' : '|'} ${data.line}`]
    case 'artifact':
      return [`file: ${data.key}, ${data.file_name}, ${formatBytes(data.size)}`]
    case 'gap':
      return [`events ${data.from} to ${data.to} are past their retention`]
    case 'completed':
      return ['completed']
    case 'failed':
      return [`failed: ${data.error}`]
    case 'cancelled':
      return ['cancelled']
    case 'progress':
    case 'preview':
      return []
    default:
      return unreachable(event)
  }
}

type Progress = Extract<TaskEvent, { event: 'progress' }>['data']

function stepText({ step_current, step_total, current_node, stage, message }: Progress): string {
  const step = step_current === undefined || step_total === undefined ? undefined : `${step_current}/${step_total}`
  return [stage ?? current_node, step, message].filter((part) => part !== undefined).join(' ')
}

/** Three quarters of base64 are bytes. */
function previewText({ content_type, data }: Extract<TaskEvent, { event: 'preview' }>['data']): string {
  return `preview: ${content_type}, ${formatBytes(Math.floor((data.length * 3) / 4))} (this terminal shows no pictures)`
}
