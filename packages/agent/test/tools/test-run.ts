import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { JsonObject } from '@cyberun/protocol'
import { onTestFinished } from 'vitest'
import type { ArtifactFile, Assignment, Progress, Run } from '../../src/tools/tool.ts'

/** A run that keeps what its tool reports. */
export interface TestRun {
  readonly run: Run
  readonly cancel: AbortController
  readonly again: AbortController
  readonly kill: AbortController
  readonly lines: { stream: string; line: string }[]
  readonly notes: string[]
  readonly progress: Progress[]
  readonly previews: Uint8Array[]
  readonly artifacts: (ArtifactFile & { bytes: Buffer })[]
}

export function assignment(change: Partial<Assignment>): Assignment {
  return {
    taskId: 'task-1',
    fence: 1,
    toolType: 'demo',
    workflowSlug: 'test',
    workflowVersion: 1,
    workflow: {},
    parameters: {},
    files: [],
    requiredModels: [],
    exposePort: undefined,
    ...change,
  }
}

/** `inputs` are paths by file key. Ends with the test. */
export async function testRun(change: Partial<Assignment>, inputs: Record<string, string> = {}): Promise<TestRun> {
  const folder = await mkdtemp(join(tmpdir(), 'cyberun-run-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const outputFolder = join(folder, 'output')
  await mkdir(outputFolder)
  const [cancel, again, kill] = [new AbortController(), new AbortController(), new AbortController()]
  let remembered: JsonObject | undefined
  const test: Omit<TestRun, 'run'> = {
    cancel,
    again,
    kill,
    lines: [],
    notes: [],
    progress: [],
    previews: [],
    artifacts: [],
  }
  const run: Run = {
    assignment: assignment(change),
    folder,
    outputFolder,
    async input(fileKey) {
      const path = inputs[fileKey]
      if (path === undefined) throw new Error(`no input ${fileKey}`)
      return { path, fileName: 'given', contentType: 'text/plain', size: readFileSync(path).length }
    },
    log: (stream, line) => void test.lines.push({ stream, line }),
    note: (message) => void test.notes.push(message),
    progress: (progress) => void test.progress.push(progress),
    preview: (_type, bytes) => void test.previews.push(bytes),
    waitingInTool() {},
    async artifact(file) {
      test.artifacts.push({ ...file, bytes: readFileSync(file.path) })
    },
    async remember(fact) {
      remembered = fact
    },
    get remembered() {
      return remembered
    },
    again: again.signal,
    kill: kill.signal,
  }
  return { ...test, run }
}
