import { access, constants, copyFile, link, mkdir } from 'node:fs/promises'
import { delimiter, extname, join } from 'node:path'
import { programEnvironment } from '../environment.ts'
import { keepOutputFiles } from '../output-files.ts'
import { processDir } from '../process-tree.ts'
import { failureOfProgram, runProgram } from '../run-process.ts'
import type { Assignment, Outcome, Run, Tool, ToolDeps } from '../tool.ts'
import { NERFSTUDIO_WORKFLOW, type NerfstudioSettings, type NerfstudioWorkflow } from './settings.ts'
import { readStageLine, type Stage, type StagesInput, stagesOf } from './stages.ts'

const PROGRAMS = ['ns-process-data', 'ns-train', 'ns-eval', 'ns-export', 'ns-render'] as const

/**
 * Makes a scene of a video or of pictures with Nerfstudio's own programs, in five stages: process-data, train, eval,
 * export, render. What the last three write is kept: metrics, the exported scene, a film.
 */
export function createNerfstudioTool(settings: NerfstudioSettings, deps: ToolDeps): Tool {
  const folders = settings.bin === undefined ? (deps.env['PATH'] ?? '').split(delimiter) : [settings.bin]
  return {
    type: 'nerfstudio',
    async detect() {
      // It prints no version of its own, and asking Python takes seconds.
      return (await missingProgram(folders)) === undefined ? { version: 'installed', labels: [] } : undefined
    },
    async health() {
      const missing = await missingProgram(folders)
      if (missing === undefined) return { state: 'ready' }
      return { state: 'unhealthy', reason: `${missing} is not in ${folders.join(delimiter)}: set nerfstudio.bin` }
    },
    check(assignment) {
      const why = faultOf(assignment)
      return Promise.resolve(why === undefined ? undefined : { reason: 'invalid', message: why })
    },
    async run(run, signal) {
      const why = faultOf(run.assignment)
      if (why !== undefined) return { kind: 'failed', code: 'invalid_parameters', message: why, fault: 'client' }
      const workflow = NERFSTUDIO_WORKFLOW.parse(settingsIn(run.assignment))
      return runStages(run, stagesOf(await prepare(run, workflow)), folders, deps, signal)
    },
  }
}

function settingsIn({ workflow, parameters }: Assignment): Record<string, unknown> {
  return { ...workflow, ...parameters }
}

/** What the task's owner has to change; undefined when it can be run. */
function faultOf(assignment: Assignment): string | undefined {
  const parsed = NERFSTUDIO_WORKFLOW.safeParse(settingsIn(assignment))
  if (!parsed.success) {
    return parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')
  }
  const videos = assignment.files.filter(({ contentType }) => contentType.startsWith('video/'))
  const images = assignment.files.filter(({ contentType }) => contentType.startsWith('image/'))
  if (videos.length === 1 && images.length === 0) return undefined
  if (videos.length === 0 && images.length >= 2) return undefined
  return 'Nerfstudio needs one video, or two pictures or more, as file parameters.'
}

async function prepare(run: Run, workflow: NerfstudioWorkflow): Promise<StagesInput> {
  const workFolder = join(run.folder, 'work')
  const pictures = join(workFolder, 'pictures')
  await mkdir(pictures, { recursive: true })
  const { files } = run.assignment
  const rest = { workflow, workFolder, outputFolder: run.outputFolder }
  const video = files.find(({ contentType }) => contentType.startsWith('video/'))
  if (video) return { source: { kind: 'video', path: (await run.input(video.fileKey)).path }, ...rest }
  for (const [index, file] of files.entries()) {
    const { path } = await run.input(file.fileKey)
    const picture = join(pictures, `${String(index).padStart(4, '0')}${extname(path)}`)
    // A second name costs nothing; a file system without such names gets a copy.
    await link(path, picture).catch(() => copyFile(path, picture))
  }
  return { source: { kind: 'images', path: pictures }, ...rest }
}

async function runStages(
  run: Run,
  stages: readonly Stage[],
  folders: readonly string[],
  deps: ToolDeps,
  signal: AbortSignal,
): Promise<Outcome> {
  let before = 0
  for (const [index, stage] of stages.entries()) {
    const message = `stage ${index + 1} of ${stages.length}`
    const tell = (share: number, step?: number): void =>
      run.progress({
        progress: before + stage.share * share,
        stage: stage.name,
        message,
        ...(step !== undefined && { stepCurrent: step }),
      })
    tell(0)
    run.note(`${stage.name} (${message})`)
    const ended = await runProgram(
      run,
      {
        program: (await findProgram(stage.program, folders)) ?? stage.program,
        args: stage.args,
        cwd: run.folder,
        env: programEnvironment(deps.env, { PYTHONUNBUFFERED: '1', PATH: pathWith(folders, deps) }),
        recordDir: processDir(deps.stateDir),
      },
      (line) => {
        const read = readStageLine(line)
        if (read) tell(read.share, read.step)
        // Tables and bars of these programs are worth reading too.
        return false
      },
      signal,
    )
    if (ended.kind === 'cancelled') return { kind: 'cancelled' }
    const failure = failureOfProgram(stage.program, ended)
    if (failure) return failure
    before += stage.share
  }
  run.progress({ progress: 1, stage: 'upload', message: 'sending the files' })
  return { kind: 'completed', output: await keepOutputFiles(run) }
}

/** The programs call each other, and COLMAP and FFmpeg, by their names. */
function pathWith(folders: readonly string[], deps: ToolDeps): string {
  return [...new Set([...folders, ...(deps.env['PATH'] ?? '').split(delimiter)])].filter(Boolean).join(delimiter)
}

async function missingProgram(folders: readonly string[]): Promise<string | undefined> {
  for (const program of PROGRAMS) if ((await findProgram(program, folders)) === undefined) return program
  return undefined
}

async function findProgram(program: string, folders: readonly string[]): Promise<string | undefined> {
  for (const folder of folders) {
    const path = join(folder, program)
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (isThere) return path
  }
  return undefined
}
