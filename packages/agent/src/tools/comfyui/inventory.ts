import type { Assignment, Decline } from '../tool.ts'
import { namesModel, nodeClassesOf, readGraph } from './graph.ts'
import type { ComfyuiHttp } from './http.ts'
import { asArray, asObject, texts } from './json.ts'
import { asDecline, missingModel, missingNode } from './refusals.ts'

/** Folders that hold no models. */
const OTHER_FOLDERS = new Set(['custom_nodes', 'configs'])
/** As many file names as are kept; more are left out. */
const MOST_MODELS = 50_000

/** What a ComfyUI has: asked once after each start, and node by node when something seems to be missing. */
export class Inventory {
  readonly models: readonly string[]
  readonly nodeClasses: readonly string[]
  /** By node class: the values that inputs which name models accept. */
  readonly #loaders: Map<string, ReadonlyMap<string, readonly string[]>>

  private constructor(models: readonly string[], classes: Readonly<Record<string, unknown>>) {
    this.models = models
    this.nodeClasses = Object.keys(classes)
    this.#loaders = new Map(Object.entries(classes).map(([name, about]) => [name, modelInputs(about)]))
  }

  static async load(http: ComfyuiHttp, signal: AbortSignal): Promise<Inventory> {
    const classes = await http.nodeClasses(signal)
    const folders = (await http.modelFolders(signal)).filter((folder) => !OTHER_FOLDERS.has(folder))
    const models = new Set<string>()
    for (const folder of folders) for (const name of await http.models(folder, signal)) models.add(name)
    return new Inventory([...models].slice(0, MOST_MODELS), classes)
  }

  /** Whether it can run the assignment. A model that came since the last start is found: its loader is asked again. */
  async check(assignment: Assignment, http: ComfyuiHttp, signal: AbortSignal): Promise<Decline | undefined> {
    const graph = readGraph(assignment.workflow)
    if (typeof graph === 'string') return { reason: 'invalid', message: graph }
    const unknown = nodeClassesOf(graph).find((name) => !this.#loaders.has(name))
    if (unknown !== undefined) return asDecline(missingNode(unknown), unknown)
    for (const { classType, inputs } of graph.values()) {
      for (const [input, value] of Object.entries(inputs)) {
        if (typeof value !== 'string' || !namesModel(input, value)) continue
        if (!(await this.#accepts(classType, input, value, http, signal))) return asDecline(missingModel(value), value)
      }
    }
    const absent = assignment.requiredModels.find((model) => !this.#has(model))
    return absent === undefined ? undefined : asDecline(missingModel(absent), absent)
  }

  async #accepts(
    classType: string,
    input: string,
    value: string,
    http: ComfyuiHttp,
    signal: AbortSignal,
  ): Promise<boolean> {
    const known = this.#loaders.get(classType)?.get(input)
    // No list: the node takes any text, or asks somebody else.
    if (known === undefined || known.includes(value)) return true
    const fresh = (await http.nodeClasses(signal, classType))[classType]
    if (fresh !== undefined) this.#loaders.set(classType, modelInputs(fresh))
    return this.#loaders.get(classType)?.get(input)?.includes(value) ?? true
  }

  /** Workflows name a model with or without the subfolder it is in. */
  #has(model: string): boolean {
    const loaded = (list: readonly string[]) =>
      list.some((name) => name === model || name.endsWith(`/${model}`) || model.endsWith(`/${name}`))
    return loaded(this.models) || [...this.#loaders.values()].some((inputs) => [...inputs.values()].some(loaded))
  }
}

/** The inputs of a node that name models, with what they accept: `[[…], {}]`, or `["COMBO", {options: […]}]`. */
function modelInputs(about: unknown): ReadonlyMap<string, readonly string[]> {
  const input = asObject(asObject(about)?.['input'])
  const specs = { ...asObject(input?.['required']), ...asObject(input?.['optional']) }
  const found = new Map<string, readonly string[]>()
  for (const [name, spec] of Object.entries(specs)) {
    const [type, extra] = asArray(spec)
    const options = Array.isArray(type)
      ? texts(type)
      : type === 'COMBO'
        ? texts(asObject(extra)?.['options'])
        : undefined
    if (options !== undefined && (namesModel(name, '') || options.some((option) => namesModel('', option)))) {
      found.set(name, options)
    }
  }
  return found
}
