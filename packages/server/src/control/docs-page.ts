import { html } from 'hono/html'
import { type Markup, page } from './pages.ts'

/** The readable form of the OpenAPI document. */

/** What this page reads of an OpenAPI 3.1 document. */
export interface ApiDocument {
  info: { title: string; version: string; description?: string }
  paths?: Record<string, Record<string, Operation>>
  components?: { schemas?: Record<string, Schema> }
}
interface Operation {
  operationId: string
  tags: string[]
  summary: string
  description: string
  parameters?: { name: string; in: string; required?: boolean; schema: Schema; description?: string }[]
  requestBody?: { content: Content }
  responses: Record<string, { description: string; content?: Content }>
}
type Content = Record<string, { schema: Schema }>
interface Schema {
  $ref?: string
  type?: string | string[]
  format?: string
  description?: string
  pattern?: string
  enum?: unknown[]
  const?: unknown
  default?: unknown
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  properties?: Record<string, Schema>
  additionalProperties?: Schema | boolean
  required?: string[]
  items?: Schema
  oneOf?: Schema[]
  anyOf?: Schema[]
}

const EXAMPLE = `curl -H 'Authorization: Bearer sk-...' http://localhost:8787/api/v1/agents
curl -H 'Authorization: Bearer sk-...' --json '{"target_port": 8188}' http://localhost:8787/api/v1/agents/<agentId>/tunnel`

interface Row {
  method: string
  path: string
  operation: Operation
}

export function docsPage(document: ApiDocument): Promise<Response> {
  const rows: Row[] = Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
  )
  const byTag = [...Map.groupBy(rows, (row) => row.operation.tags[0] ?? '')]
  const schemas = document.components?.schemas ?? {}
  return page(
    `${document.info.title} ${document.info.version}`,
    html`<div class="with-list"><nav><a href="/"><strong>Cyberun</strong></a>
${byTag.map(([tag, list]) => html`<b>${tag}</b>${list.map(navLine)}`)}</nav>
<main><h1>${document.info.title} <span class="dim">${document.info.version}</span></h1>
${paragraphs(document.info.description ?? '')}
<p>Base of every address: <code>/api/v1</code>. The same as <a href="/api/v1/openapi.json">OpenAPI 3.1</a>. With curl:</p>
<pre>${EXAMPLE}</pre>
${byTag.map(([tag, list]) => html`<h2 id="${tag}">${tag}</h2>${list.map((row) => article(row, schemas))}`)}
</main></div>`,
  )
}

function navLine({ method, path, operation }: Row): Markup {
  return html`<a href="#${operation.operationId}"><span class="verb">${method}</span>${path.slice(1)}</a>`
}

function article({ method, path, operation }: Row, schemas: Record<string, Schema>): Markup {
  const parameters = operation.parameters ?? []
  const body = operation.requestBody?.content['application/json']?.schema
  const [[done, ...others], faults] = partition(operation)
  const answer = done?.[1].content?.['application/json']?.schema
  const events = done?.[1].content?.['text/event-stream']?.schema
  return html`<article id="${operation.operationId}">
<h3><span class="verb">${method}</span>${path}</h3>
<p>${operation.summary} <span class="dim">${inline(operation.description)}</span></p>
${
  parameters.length > 0
    ? html`<h4>Parameters</h4><table>${parameters.map(
        ({ name, in: place, required, schema, description }) =>
          html`<tr><td><code>${name}</code> <span class="dim">${place}</span></td>
<td>${typeText(schema, schemas)}${required ? ', required' : ''}${limits(schema)} <span class="dim">${description ?? ''}</span></td></tr>`,
      )}</table>`
    : ''
}
${body ? html`<h4>Body</h4>${fields(body, schemas)}` : ''}
<h4>Answer <code>${done?.[0]}</code></h4>
${events ? html`<p>${done?.[1].description}</p>` : ''}
${others.map(([status, { description }]) => html`<p>Or <code>${status}</code>: ${description}</p>`)}
${answer || events ? fields(answer ?? events ?? {}, schemas) : html`<p class="dim">No body.</p>`}
<h4>Errors</h4>
<p>${faults.map(([status, { description }]) => html`<code>${status}</code> <span class="dim">${inline(description)}</span> `)}</p>
</article>`
}

/** What a call answers when all is well, then its errors. */
function partition({ responses }: Operation) {
  const all = Object.entries(responses)
  const isFault = ([status]: [string, unknown]) => Number(status) >= 400
  return [all.filter((response) => !isFault(response)), all.filter(isFault)] as const
}

/** A table of the fields of an object; of each form, when there are several. */
function fields(schema: Schema, schemas: Record<string, Schema>): Markup {
  const { properties, required = [], oneOf, anyOf } = resolve(schema, schemas)
  const forms = oneOf ?? anyOf
  if (forms) return html`${forms.map((form) => fields(form, schemas))}`
  return html`<table>${Object.entries(properties ?? {}).map(
    ([name, field]) => html`<tr><td><code>${name}</code></td>
<td>${typeText(field, schemas)}${required.includes(name) ? '' : ', optional'}${limits(resolve(field, schemas))} <span class="dim">${field.description ?? ''}</span>${nested(field, schemas)}</td></tr>`,
  )}</table>`
}

/** The fields of an object, or of the objects in a list, inside another table. */
function nested(schema: Schema, schemas: Record<string, Schema>): Markup | '' {
  const { properties, items } = resolve(schema, schemas)
  if (properties) return fields(schema, schemas)
  return items && resolve(items, schemas).properties ? fields(items, schemas) : ''
}

function resolve(schema: Schema, schemas: Record<string, Schema>): Schema {
  const name = schema.$ref?.split('/').at(-1)
  return name === undefined ? schema : (schemas[name] ?? schema)
}

function typeText(schema: Schema, schemas: Record<string, Schema>): string {
  const { type, format, enum: values, const: only, items, additionalProperties, anyOf } = resolve(schema, schemas)
  if (anyOf) return anyOf.map((form) => typeText(form, schemas)).join(' or ')
  if (only !== undefined) return JSON.stringify(only)
  if (values) return values.map((value) => JSON.stringify(value)).join(' or ')
  if (items) return `list of ${typeText(items, schemas)}`
  if (typeof additionalProperties === 'object') return `object of ${typeText(additionalProperties, schemas)}`
  const names = [type ?? 'any'].flat().join(' or ')
  return format === undefined ? names : names.replace('string', FORMATS[format] ?? format)
}

const FORMATS: Readonly<Record<string, string>> = {
  'date-time': 'time',
  uri: 'URL',
  uuid: 'UUID',
  email: 'e-mail address',
}

function limits({ minimum, maximum, minLength, maxLength, default: preset }: Schema): string {
  const low = minimum ?? minLength
  const high = maximum ?? maxLength
  const what = minLength === undefined && maxLength === undefined ? '' : ' characters'
  const range =
    low !== undefined && high !== undefined && high < Number.MAX_SAFE_INTEGER ? `, ${low} to ${high}${what}` : ''
  return range + (preset === undefined ? '' : `, default ${JSON.stringify(preset)}`)
}

function paragraphs(text: string): Markup {
  return html`${text.split('\n\n').map((part) => html`<p>${inline(part)}</p>`)}`
}

/** Text with `code` in back-ticks. */
function inline(text: string): Markup {
  return html`${text.split('`').map((part, at) => (at % 2 === 1 ? html`<code>${part}</code>` : part))}`
}
