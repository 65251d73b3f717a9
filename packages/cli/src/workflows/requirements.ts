import type { Graph } from './graph.ts'

/** Endings of model files, whatever loader takes them. */
const MODEL_FILE = /\.(?:safetensors|sft|ckpt|pth?|bin|gguf|onnx|engine)$/i

/** The model files that a graph's loaders name, as ComfyUI names them: a path below the folder of their kind. */
export function requiredModels(graph: Graph): string[] {
  const models = new Set<string>()
  for (const node of graph.values()) {
    for (const input of node.inputs.values()) {
      if (input.kind === 'value' && typeof input.value === 'string' && MODEL_FILE.test(input.value)) {
        models.add(input.value)
      }
    }
  }
  return [...models].sort()
}

/** The classes of a graph's nodes: an agent whose ComfyUI lacks one cannot run it. */
export function nodeClasses(graph: Graph): string[] {
  return [...new Set([...graph.values()].map((node) => node.classType))].sort()
}
