import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CliError } from '../../src/errors.ts'
import { readGraph } from '../../src/workflows/graph.ts'
import { proposeImport, slugOf } from '../../src/workflows/propose-import.ts'
import { FLUX, IMAGE_TO_IMAGE, TEXT_TO_IMAGE } from './graphs.ts'

/** Key, place and default of what is proposed. */
function proposed(graph: unknown): [string, string, unknown][] {
  const { body } = proposeImport('graph.json', graph, {})
  return (body.parameters ?? []).map(({ key, node_id, field, default: value }) => [key, `${node_id}.${field}`, value])
}

describe('parameters', () => {
  test('of the default graph', () => {
    expect(proposed(TEXT_TO_IMAGE)).toEqual([
      ['prompt', '6.text', 'a galaxy in a bottle'],
      ['negative', '7.text', 'text, watermark'],
      ['seed', '3.seed', 156680208700286],
      ['steps', '3.steps', 20],
      ['cfg', '3.cfg', 8],
      ['sampler', '3.sampler_name', 'euler'],
      ['scheduler', '3.scheduler', 'normal'],
      ['denoise', '3.denoise', 1],
      ['model', '4.ckpt_name', 'v1-5-pruned-emaonly-fp16.safetensors'],
      ['width', '5.width', 512],
      ['height', '5.height', 512],
      ['batch_size', '5.batch_size', 1],
    ])
  })

  test('of a sampler in parts, with the prompt in a node of its own', () => {
    expect(proposed(FLUX)).toEqual([
      ['prompt', '40.value', 'cute anime girl'],
      ['model', '12.unet_name', 'flux1-dev.safetensors'],
      ['sampler', '16.sampler_name', 'euler'],
      ['scheduler', '17.scheduler', 'simple'],
      ['steps', '17.steps', 28],
      ['denoise', '17.denoise', 1],
      ['seed', '25.noise_seed', 7],
      ['guidance', '26.guidance', 3.5],
      ['width', '27.width', 1024],
      ['height', '27.height', 1024],
      ['batch_size', '27.batch_size', 1],
    ])
  })

  test('of a graph with a picture, a control net and two samplers', () => {
    expect(proposed(IMAGE_TO_IMAGE)).toEqual([
      ['prompt', '3.text', 'a castle'],
      ['negative', '4.text', 'blurry'],
      ['image', '5.image', undefined],
      ['model', '1.ckpt_name', 'SDXL/base.safetensors'],
      ['lora', '2.lora_name', 'detail.safetensors'],
      ['lora_strength', '2.strength_model', 0.8],
      ['seed', '9.seed', 1],
      ['steps', '9.steps', 20],
      ['seed_2', '10.seed', 2],
      ['steps_2', '10.steps', 12],
    ])
    const { body } = proposeImport('graph.json', IMAGE_TO_IMAGE, {})
    expect(body.parameters?.find(({ key }) => key === 'image')).toEqual({
      ...{
        key: 'image',
        type: 'file',
        required: true,
        accept: 'image/*',
        node_id: '5',
        field: 'image',
        label: 'Start',
      },
    })
  })

  test('a negative that is a zeroed prompt is no parameter of its own', () => {
    const graph = {
      '1': { class_type: 'CLIPTextEncode', inputs: { text: 'sea' } },
      '2': { class_type: 'ConditioningZeroOut', inputs: { conditioning: ['1', 0] } },
      '3': { class_type: 'KSampler', inputs: { positive: ['1', 0], negative: ['2', 0] } },
    }
    expect(proposed(graph)).toEqual([['prompt', '1.text', 'sea']])
  })
})

test('models and node classes are what the graph names', () => {
  const { body, nodeClasses } = proposeImport('graph.json', FLUX, {})
  expect(body.required_models).toEqual(['clip_l.safetensors', 'flux1-dev.safetensors', 't5xxl_fp16.safetensors'])
  expect(proposeImport('x.json', IMAGE_TO_IMAGE, {}).body.required_models).toEqual([
    'SDXL/base.safetensors',
    'depth.pth',
    'detail.safetensors',
  ])
  expect(nodeClasses).toContain('SamplerCustomAdvanced')
})

test('a graph wrapped as ComfyUI stores it is unwrapped', () => {
  expect(proposeImport('graph.json', { prompt: TEXT_TO_IMAGE, client_id: 'x' }, {}).body.workflow_json).toEqual(
    TEXT_TO_IMAGE,
  )
})

test('what "workflows show --json" printed is taken as it is', () => {
  const shown = {
    ...{ id: 'x', version: 4, created_at: 'x', workflow_slug: 'portrait', display_name: 'Portrait' },
    ...{ workflow_json: { program: 'echo' }, tool_type: 'demo', parameters: [{ key: 'a', target_path: 'a' }] },
  }
  expect(proposeImport('other.json', shown, { label: ['gpu'] })).toEqual({
    slug: 'portrait',
    nodeClasses: [],
    body: {
      ...{ display_name: 'Portrait', workflow_json: { program: 'echo' }, tool_type: 'demo', required_labels: ['gpu'] },
      parameters: [{ key: 'a', target_path: 'a' }],
    },
  })
})

test.each([
  [{ nodes: [], links: [], version: 0.4 }, 'Export (API)'],
  [[], 'not a JSON object'],
  [{}, 'no nodes'],
  [{ '1': { inputs: {} } }, 'no class_type'],
  [{ '1': { class_type: 'A', inputs: [] } }, 'no object'],
  [{ '1': { class_type: 'A', inputs: { x: ['2', 0] } } }, 'node 2, which is not there'],
])('%j is refused and told what it is', (json, says) => {
  expect(() => proposeImport('graph.json', json, {})).toThrow(CliError)
  expect(() => proposeImport('graph.json', json, {})).toThrow(says)
})

test.each([
  ['/some/where/My Graph (v2).json', 'my-graph-v2'],
  ['Über_größe.json', 'uber-gro-e'],
  ['工作流.json', undefined],
  ['a.json', undefined],
])('%s is called %s', (file, slug) => {
  expect(slugOf(file)).toBe(slug)
})

test('no JSON makes it fail in another way than it says', () => {
  const value = fc.letrec((tie) => ({
    json: fc.oneof(fc.string(), fc.integer(), fc.tuple(fc.constantFrom('1', '2', '3'), fc.nat(2)), tie('inputs')),
    inputs: fc.dictionary(fc.constantFrom('text', 'positive', 'negative', 'guider', 'value', 'seed'), tie('json'), {
      maxKeys: 4,
    }),
  }))
  const node = fc.record({ class_type: fc.constantFrom('A', 'LoadImage', 'KSampler'), inputs: value.inputs })
  const graph = fc.dictionary(fc.constantFrom('1', '2', '3'), node)
  fc.assert(
    fc.property(fc.oneof(graph, fc.jsonValue()), (json) => {
      const { kind } = readGraph(json)
      if (kind === 'graph') expect(proposeImport('graph.json', json, {}).body.parameters).toBeDefined()
      else expect(() => proposeImport('graph.json', json, {})).toThrow(CliError)
    }),
  )
})
