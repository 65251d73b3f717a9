import { EXPOSED_PROTOCOLS, TOOL_TYPES } from '@cyberun/protocol'
import { z } from 'zod'
import { Id, oneLine, PageMeta, PageQuery, Time } from './common.ts'

/** Workflows: what a team runs, kept in versions. */

export { TOOL_TYPES }
/** What does the work on an agent. */
export const ToolType = z.enum(TOOL_TYPES)
export type ToolType = z.output<typeof ToolType>

export const PARAMETER_TYPES = ['string', 'number', 'boolean', 'select', 'file'] as const

const SLUG = '[a-z0-9]+(?:-[a-z0-9]+)*'
const WorkflowSlug = z
  .string()
  .min(2)
  .max(100)
  .regex(new RegExp(`^${SLUG}$`), 'is not lower-case words joined by dashes')
/** A slug, or `slug@version` for one of its snapshots. */
const PinnedSlug = z
  .string()
  .max(120)
  .regex(new RegExp(`^${SLUG}(?:@[1-9][0-9]{0,8})?$`))
const Version = z.int().min(1).max(999_999_999)

/** Text a person typed in several lines: no control characters but tabs and line breaks. */
const text = (maxCharacters: number) =>
  z
    .string()
    .max(maxCharacters)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: refusing them is the purpose.
    .regex(/^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*$/, 'must not contain control characters')

/** `__proto__` would be lost wherever parameters are an object. */
const ParameterKey = z
  .string()
  .min(1)
  .max(100)
  .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/, 'may have letters, digits, dots, dashes and underscores')
  .refine((key) => key !== '__proto__', 'is a name of the language; choose another')
const Scalar = z.union([z.string().max(64 * 1024), z.number(), z.boolean()])

/** One thing a run is asked for. It goes into the graph at `node_id` and `field`, or to the dotted `target_path`. */
export const WorkflowParameter = z
  .object({
    key: ParameterKey,
    type: z.enum(PARAMETER_TYPES).default('string'),
    label: text(200).nullish(),
    description: text(2_000).nullish(),
    required: z.boolean().default(false),
    default: Scalar.nullish().describe('Used when a run does not give the parameter.'),
    min: z.number().nullish().describe('Least value of a number; least characters of a string.'),
    max: z.number().nullish().describe('Greatest value of a number; most characters of a string.'),
    options: z.array(Scalar).max(1_000).nullish().describe('What a select may be.'),
    accept: text(500).nullish().describe('Of a file: types and endings as in HTML, such as image/*,.safetensors'),
    node_id: z.string().max(200).nullish(),
    field: z.string().max(200).nullish(),
    target_path: z.string().max(500).nullish(),
  })
  .meta({ id: 'WorkflowParameter' })
export type WorkflowParameter = z.output<typeof WorkflowParameter>

const Requirement = oneLine(200)

const Expose = z
  .object({
    port: z.int().min(0).max(65_535).default(0).describe("Of the agent's machine; 0 lets the agent choose one."),
    protocol: z.enum(EXPOSED_PROTOCOLS).default('http'),
  })
  .describe('A service of each run, which a tunnel leads to while it runs.')

/** Every field a caller may set, without defaults. */
const fields = {
  display_name: oneLine(100),
  description: text(2_000),
  workflow_json: z.record(z.string(), z.unknown()).describe('For ComfyUI, a graph in its API format.'),
  parameters: z
    .array(WorkflowParameter)
    .max(200)
    .refine((list) => new Set(list.map(({ key }) => key)).size === list.length, 'has the same key twice'),
  tool_type: ToolType,
  required_labels: z.array(Requirement).max(50),
  task_timeout: z.int().min(0).max(2_592_000).describe("Seconds from the agent's acknowledgement; 0 for none."),
  max_retries: z.int().min(0).max(20),
  preferred_gpu: oneLine(100).nullable().describe('A GPU to prefer among agents that may run it; part of its name.'),
  min_vram_gb: z.number().min(0).max(10_000).nullable(),
  required_models: z.array(Requirement).max(200),
  workflow_status: z.enum(['active', 'disabled']),
  resume_window: z
    .int()
    .min(10)
    .max(86_400)
    .describe('Seconds an agent may be out of reach before its run is given to another.'),
  expose: Expose.nullable(),
}

export const WORKFLOW_DEFAULTS = {
  description: '',
  parameters: [],
  tool_type: 'comfyui',
  required_labels: [],
  task_timeout: 0,
  max_retries: 1,
  preferred_gpu: null,
  min_vram_gb: null,
  required_models: [],
  workflow_status: 'active',
  resume_window: 60,
  expose: null,
} as const

export const ImportWorkflowBody = z.object({
  workflow_slug: WorkflowSlug,
  display_name: fields.display_name.optional().describe('By default the slug.'),
  description: fields.description.default(WORKFLOW_DEFAULTS.description),
  workflow_json: fields.workflow_json,
  parameters: fields.parameters.default([]),
  tool_type: fields.tool_type.default(WORKFLOW_DEFAULTS.tool_type),
  required_labels: fields.required_labels.default([]),
  task_timeout: fields.task_timeout.default(WORKFLOW_DEFAULTS.task_timeout),
  max_retries: fields.max_retries.default(WORKFLOW_DEFAULTS.max_retries),
  preferred_gpu: fields.preferred_gpu.default(null),
  min_vram_gb: fields.min_vram_gb.default(null),
  required_models: fields.required_models.default([]),
  workflow_status: fields.workflow_status.default(WORKFLOW_DEFAULTS.workflow_status),
  resume_window: fields.resume_window.default(WORKFLOW_DEFAULTS.resume_window),
  expose: fields.expose.default(null),
})
export type ImportWorkflowBody = z.output<typeof ImportWorkflowBody>

/** What is left out stays as it is. */
export const ChangeWorkflowBody = z.object({ workflow_slug: WorkflowSlug, ...fields }).partial()
export type ChangeWorkflowBody = z.output<typeof ChangeWorkflowBody>

export const WorkflowParams = z.object({ id: Id })
export const SlugParams = z.object({ slug: PinnedSlug })
export const SnapshotParams = z.object({ id: Id, version: z.coerce.number().pipe(Version) })
export const WorkflowQuery = PageQuery.extend({
  workflow_status: fields.workflow_status.optional(),
  tool_type: ToolType.optional(),
})

export const WorkflowView = z
  .object({
    id: Id,
    workflow_slug: z.string(),
    display_name: z.string(),
    description: z.string(),
    workflow_json: fields.workflow_json.optional().describe('Withheld from integration keys.'),
    parameters: z.array(WorkflowParameter),
    tool_type: ToolType,
    required_labels: z.array(z.string()),
    task_timeout: z.int(),
    max_retries: z.int(),
    preferred_gpu: z.string().nullable(),
    min_vram_gb: z.number().nullable(),
    required_models: z.array(z.string()),
    workflow_status: fields.workflow_status,
    resume_window: z.int(),
    expose: fields.expose.default(null),
    version: Version,
    created_at: Time,
    updated_at: Time,
  })
  .meta({ id: 'Workflow' })
export type WorkflowView = z.output<typeof WorkflowView>

/** Lists leave the graph out: a page of them could be hundreds of megabytes. */
export const WorkflowListAnswer = z.object({
  workflow_list: z.array(WorkflowView.omit({ workflow_json: true }).meta({ id: 'WorkflowListed' })),
  page_meta: PageMeta,
})

export const SnapshotView = z
  .object({
    version: Version,
    display_name: z.string(),
    created_at: Time,
    created_by: Id.describe('The user who saved it.'),
  })
  .meta({ id: 'WorkflowSnapshot' })
export type SnapshotView = z.output<typeof SnapshotView>
export const SnapshotListAnswer = z.object({ snapshot_list: z.array(SnapshotView), page_meta: PageMeta })
