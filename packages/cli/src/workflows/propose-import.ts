import { basename } from 'node:path'
import type { WorkflowParameter } from '@cyberun/api'
import { CliError } from '../errors.ts'
import { readGraph } from './graph.ts'
import { proposeParameters } from './propose-parameters.ts'
import { nodeClasses, requiredModels } from './requirements.ts'

export interface ImportOptions {
  slug?: string
  name?: string
  label?: string[]
}

/** The body of an import but for its slug; everything else has a default on the server. */
export interface ImportBody {
  workflow_json: Record<string, unknown>
  display_name?: string
  parameters?: (Partial<WorkflowParameter> & { key: string })[]
  required_models?: string[]
  required_labels?: string[]
  tool_type?: 'comfyui' | 'nerfstudio' | 'command' | 'demo'
}

/** What a file is imported as. */
export interface Proposed {
  /** Undefined when neither an option nor the file's name makes one. */
  slug: string | undefined
  body: ImportBody
  /** Classes of a graph's nodes: an agent whose ComfyUI lacks one is not given the run. */
  nodeClasses: string[]
}

export const SLUG_FORM = 'lower-case letters and digits, with dashes between words'
const SLUG = /^[a-z0-9]+(?:-[a-z0-9]+)*$/

export function isSlug(text: string): boolean {
  return text.length >= 2 && text.length <= 100 && SLUG.test(text)
}

/**
 * What to import from a file: a ComfyUI graph in its API format, with parameters proposed from its inputs, or a whole
 * workflow as "workflows show --json" prints it. Throws a `CliError` that says what the file is instead.
 */
export function proposeImport(file: string, json: unknown, options: ImportOptions): Proposed {
  if (options.slug !== undefined && !isSlug(options.slug)) {
    throw new CliError('usage', 'usage', `--slug ${options.slug} is no slug: ${SLUG_FORM}`)
  }
  const labels = options.label === undefined ? {} : { required_labels: options.label }
  const name = options.name === undefined ? {} : { display_name: options.name }
  const workflow = wholeWorkflow(json)
  if (workflow) {
    const slug = options.slug ?? (isSlug(workflow.slug) ? workflow.slug : slugOf(file))
    return { slug, body: { ...workflow.body, ...name, ...labels }, nodeClasses: [] }
  }
  const reading = readGraph(json)
  switch (reading.kind) {
    case 'editor':
      throw new CliError(
        'usage',
        'editor_format',
        `${file} is in the format of ComfyUI's editor, which only the editor can run. ${HOW_TO_EXPORT}`,
      )
    case 'invalid':
      throw new CliError(
        'usage',
        'invalid_file',
        `${file} is no ComfyUI graph in API format: ${reading.reason}. ${HOW_TO_EXPORT}`,
      )
    case 'graph': {
      const { graph } = reading
      return {
        slug: options.slug ?? slugOf(file),
        nodeClasses: nodeClasses(graph),
        body: {
          workflow_json: asPrompt(json, graph.size),
          parameters: proposeParameters(graph),
          required_models: requiredModels(graph),
          tool_type: 'comfyui',
          ...name,
          ...labels,
        },
      }
    }
  }
}

const HOW_TO_EXPORT =
  'In ComfyUI choose Workflow > Export (API), in older ones Save (API Format) after switching on dev mode in the settings'

/** `My Graph (v2).json` → `my-graph-v2`; undefined when nothing of the name can stand in a slug. */
export function slugOf(file: string): string | undefined {
  const name = basename(file).replace(/\.[a-z]+$/i, '')
  const plain = name.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase()
  const slug = plain
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 100)
    .replace(/-$/, '')
  return isSlug(slug) ? slug : undefined
}

/** Fields of a workflow that an import takes; the server checks each. */
const FIELDS = [
  ...['display_name', 'description', 'workflow_json', 'parameters', 'tool_type', 'required_labels', 'task_timeout'],
  ...['max_retries', 'preferred_gpu', 'min_vram_gb', 'required_models', 'workflow_status', 'resume_window'],
]

function wholeWorkflow(json: unknown): { slug: string; body: ImportBody } | undefined {
  if (!isRecord(json) || !isRecord(json['workflow_json'])) return undefined
  const fields = Object.fromEntries(FIELDS.filter((name) => name in json).map((name) => [name, json[name]]))
  return { slug: String(json['workflow_slug'] ?? ''), body: { ...fields, workflow_json: json['workflow_json'] } }
}

/** The graph itself, out of what it may be wrapped in. */
function asPrompt(json: unknown, size: number): Record<string, unknown> {
  if (!isRecord(json)) throw new Error('a graph was read from something else')
  const inner = json['prompt']
  return isRecord(inner) && Object.keys(inner).length === size && !('class_type' in inner) ? inner : json
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
