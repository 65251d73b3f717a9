import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { WorkflowView } from '@cyberun/api'
import { type Client, ClientError } from '@cyberun/api/client'
import { connect } from '../connect.ts'
import { type Context, printNote, printResult } from '../context.ts'
import { CliError } from '../errors.ts'
import { allPages } from '../pages.ts'
import { ask, confirm, isInteractive } from '../prompts.ts'
import { table } from '../table.ts'
import { formatAge, printable } from '../text.ts'
import { type ImportOptions, isSlug, type Proposed, proposeImport, SLUG_FORM } from '../workflows/propose-import.ts'

/** `cyberun workflows import`. Asks what the file does not say, and before it makes a new version of another's work. */
export async function importWorkflow(
  context: Context,
  file: string,
  options: ImportOptions & { yes?: true },
): Promise<undefined> {
  const proposed = proposeImport(file, await readJson(resolve(context.cwd, file), file), options)
  const slug = proposed.slug ?? (await askSlug(context, file, options.yes === true))
  const { client } = await connect(context, 'manager')
  const known = await findWorkflow(client, slug)
  printNote(context, describeImport(slug, proposed, known))
  if (known && !options.yes && isInteractive(context)) {
    const message = `${slug} is there already, in version ${known.version}. Make version ${known.version + 1} of it?`
    if (!(await confirm(context, { message, option: '--yes' }))) {
      throw new CliError('interrupted', 'interrupted', 'nothing was imported')
    }
  }
  const { id } = await client.call('POST /workflows/import', { body: { ...proposed.body, workflow_slug: slug } })
  const version = (known?.version ?? 0) + 1
  const imported = {
    id,
    workflow_slug: slug,
    version,
    parameters: proposed.body.parameters ?? [],
    node_classes: proposed.nodeClasses,
  }
  printResult(
    context,
    imported,
    () => `Imported ${printable(slug)}, version ${version}. Run it: cyberun run ${printable(slug)}\n`,
  )
}

/** `cyberun workflows list`. */
export async function listWorkflows(context: Context): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const workflows = await allPages(async (query) => {
    const answer = await client.call('GET /r/workflows', { query })
    return { items: answer.workflow_list, total: answer.page_meta.total_count }
  })
  printResult(context, { workflow_list: workflows }, () => {
    if (workflows.length === 0) return 'No workflows. Import one: cyberun workflows import graph.json\n'
    const rows = workflows.map((workflow) => [
      workflow.workflow_slug,
      workflow.display_name,
      workflow.tool_type,
      String(workflow.version),
      workflow.workflow_status,
      formatAge(workflow.updated_at, context.now()),
    ])
    return table(['WORKFLOW', 'NAME', 'TOOL', 'VERSION', 'STATUS', 'CHANGED'], rows)
  })
}

/** `cyberun workflows show`: what it is and what a run of it may be given. */
export async function showWorkflow(context: Context, slug: string): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const workflow = await client.call('GET /r/workflows/slug/{slug}', { params: { slug } })
  printResult(context, workflow, () => {
    const needs = [...workflow.required_labels, ...workflow.required_models]
    const facts = [
      `${workflow.workflow_slug}@${workflow.version}: ${workflow.display_name}`,
      ...(workflow.description === '' ? [] : [workflow.description]),
      `tool: ${workflow.tool_type}; status: ${workflow.workflow_status}`,
      ...(needs.length === 0 ? [] : [`needs: ${needs.join(', ')}`]),
    ]
    return facts.map((fact) => `${printable(fact)}\n`).join('') + parameterTable(workflow.parameters)
  })
}

/** `cyberun workflows delete`. */
export async function deleteWorkflow(context: Context, slug: string, options: { yes?: true }): Promise<undefined> {
  const { client } = await connect(context, 'manager')
  const { id } = await client.call('GET /r/workflows/slug/{slug}', { params: { slug } })
  const message = `Delete ${slug} with all its versions?`
  if (!options.yes && !(await confirm(context, { message, option: '--yes' }))) {
    throw new CliError('interrupted', 'interrupted', 'nothing was deleted')
  }
  await client.call('DELETE /workflows/{id}', { params: { id } })
  printResult(context, { id, workflow_slug: slug }, () => `Deleted ${printable(slug)}. Tasks that wait still run.\n`)
}

async function readJson(path: string, shown: string): Promise<unknown> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    throw new CliError('usage', 'no_file', `${shown} cannot be read: ${code ?? message}`, { cause })
  }
  try {
    // Some editors of Windows begin a file with a byte order mark, which is no JSON.
    return JSON.parse(text.replace(/^\uFEFF/, ''))
  } catch (cause) {
    throw new CliError('usage', 'invalid_file', `${shown} is not JSON: ${(cause as Error).message}`, { cause })
  }
}

async function askSlug(context: Context, file: string, mayNotAsk: boolean): Promise<string> {
  const option = '--slug'
  if (mayNotAsk) throw new CliError('usage', 'usage', `${file} makes no slug: give ${option}, ${SLUG_FORM}`)
  const slug = await ask(context, { message: `What is it called in commands? (${SLUG_FORM})`, option })
  if (!isSlug(slug)) throw new CliError('usage', 'usage', `${slug} is no slug: ${SLUG_FORM}`)
  return slug
}

async function findWorkflow(client: Client, slug: string): Promise<WorkflowView | undefined> {
  try {
    return await client.call('GET /r/workflows/slug/{slug}', { params: { slug } })
  } catch (error) {
    if (error instanceof ClientError && error.code === 'not_found') return undefined
    throw error
  }
}

function describeImport(slug: string, { body, nodeClasses }: Proposed, known: WorkflowView | undefined): string {
  const models = body.required_models ?? []
  const parts = [
    `${slug}: ${known ? `version ${known.version + 1} of it` : 'a new workflow'} for ${body.tool_type ?? 'comfyui'}`,
    `parameters: ${(body.parameters ?? []).map(({ key }) => key).join(', ') || 'none'}`,
    ...(models.length === 0 ? [] : [`models: ${models.join(', ')}`]),
    ...(nodeClasses.length === 0 ? [] : [`nodes: ${nodeClasses.join(', ')}`]),
  ]
  return parts.join('; ')
}

function parameterTable(parameters: WorkflowView['parameters']): string {
  if (parameters.length === 0) return ''
  const rows = parameters.map((parameter) => [
    parameter.key,
    parameter.type,
    parameter.required
      ? 'required'
      : parameter.default === null || parameter.default === undefined
        ? '-'
        : shorten(String(parameter.default)),
    parameter.options?.join(' ') ?? bounds(parameter.min, parameter.max),
    parameter.label ?? '',
  ])
  return `\n${table(['PARAMETER', 'TYPE', 'DEFAULT', 'MAY BE', 'LABEL'], rows)}`
}

function bounds(min: number | null | undefined, max: number | null | undefined): string {
  return min == null && max == null ? '' : `${min ?? ''} to ${max ?? ''}`.trim()
}

function shorten(text: string): string {
  return text.length <= 40 ? text : `${text.slice(0, 39)}…`
}
