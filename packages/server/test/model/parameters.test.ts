import type { WorkflowParameter } from '@cyberun/api'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkPlaces, injectParameters } from '../../src/model/inject.ts'
import { checkParameters } from '../../src/model/parameters.ts'

const asked = (key: string, about: Partial<WorkflowParameter> = {}): WorkflowParameter => ({
  key,
  type: 'string',
  required: false,
  ...about,
})

const ALL = [
  asked('prompt', { required: true, min: 1, max: 10 }),
  asked('steps', { type: 'number', default: 20, min: 1, max: 50 }),
  asked('tiled', { type: 'boolean' }),
  asked('sampler', { type: 'select', options: ['euler', 'heun', 3] }),
  asked('image', { type: 'file' }),
]

describe('parameters of a run', () => {
  test('are completed with defaults; null is as good as nothing; uploads are named', () => {
    expect(checkParameters(ALL, { prompt: 'a cat', tiled: null, sampler: 3, image: 'key-1' })).toEqual({
      kind: 'valid',
      parameters: { prompt: 'a cat', steps: 20, sampler: 3, image: 'key-1' },
      fileKeys: [{ parameter: 'image', fileKey: 'key-1' }],
    })
  })

  test.each([
    [{}, 'prompt', 'is required'],
    [{ prompt: null }, 'prompt', 'is required'],
    [{ prompt: 7 }, 'prompt', 'must be text, but is number'],
    [{ prompt: '' }, 'prompt', 'must be at least 1 characters'],
    [{ prompt: '😀'.repeat(11) }, 'prompt', 'must be at most 10 characters'],
    [{ prompt: 'x', steps: '20' }, 'steps', 'must be a number, but is string'],
    [{ prompt: 'x', steps: 51 }, 'steps', 'must be at most 50'],
    [{ prompt: 'x', steps: [1] }, 'steps', 'must be a number, but is a list'],
    [{ prompt: 'x', tiled: 1 }, 'tiled', 'must be true or false, but is number'],
    [{ prompt: 'x', sampler: 'eular' }, 'sampler', 'is no option; did you mean euler?'],
    [{ prompt: 'x', sampler: {} }, 'sampler', 'must be one of euler, heun, 3'],
    [{ prompt: 'x', image: '' }, 'image', 'must be the file_key of an upload, but is string'],
    [{ prompt: 'x', promt: 'y' }, 'promt', 'is no parameter of this workflow; did you mean prompt?'],
    [
      { prompt: 'x', zzzzzzzz: 1 },
      'zzzzzzzz',
      'is no parameter of this workflow; it has prompt, steps, tiled, sampler, image',
    ],
    [JSON.parse('{"prompt": "x", "__proto__": 1}'), '__proto__', expect.stringContaining('is no parameter')],
  ])('%j is refused for what is wrong with it', (given, key, message) => {
    expect(checkParameters(ALL, given)).toEqual({
      kind: 'invalid',
      details: [{ path: `body.parameters.${key}`, message }],
    })
  })

  test('have one detail for each fault', () => {
    const checked = checkParameters(ALL, { steps: 'x', tiled: 'x', other: 1 })
    expect(checked.kind === 'invalid' && checked.details.map(({ path }) => path)).toEqual([
      'body.parameters.other',
      'body.parameters.prompt',
      'body.parameters.steps',
      'body.parameters.tiled',
    ])
  })
})

const GRAPH = { 6: { class_type: 'CLIPTextEncode', inputs: { text: '', clip: ['4', 1] } }, list: [{ a: 1 }, 2] }

describe('places of parameters', () => {
  test('are filled by node and field and by path, and the workflow itself stays as it was', () => {
    const before = structuredClone(GRAPH)
    const parameters = [
      asked('prompt', { node_id: '6', field: 'text' }),
      asked('deep', { target_path: 'list.0.a' }),
      asked('made', { target_path: 'new.inner' }),
      asked('image', { type: 'file', node_id: '6', field: 'clip' }),
      asked('left', { target_path: 'list.1' }),
      asked('nowhere'),
    ]
    expect(checkPlaces({ workflow_json: GRAPH, parameters })).toEqual([])
    const values = { prompt: 'a cat', deep: 5, made: true, image: 'key-1', nowhere: 1 }
    expect(injectParameters({ workflow_json: GRAPH, parameters }, values)).toEqual({
      6: { class_type: 'CLIPTextEncode', inputs: { text: 'a cat', clip: 'cyberun-file:key-1' } },
      list: [{ a: 5 }, 2],
      new: { inner: true },
    })
    expect(GRAPH).toEqual(before)
  })

  test.each([
    [{ node_id: '7', field: 'text' }, 'node_id', 'names no node of the graph; did you mean 6?'],
    [{ node_id: '6', field: 'txet' }, 'field', 'names no input of node 6; did you mean text?'],
    [{ node_id: '6' }, 'field', 'is missing: which input of node 6 is it'],
    [{ field: 'text' }, 'node_id', 'is missing: a field belongs to a node'],
    [
      { node_id: '6', field: 'text', target_path: 'a' },
      'target_path',
      'goes without node_id and field: a value has one place',
    ],
    [{ target_path: 'list.5' }, 'target_path', 'leads through something that is neither object nor list'],
    [{ target_path: 'list.1.x' }, 'target_path', 'leads through something that is neither object nor list'],
    [{ target_path: 'a..b' }, 'target_path', 'must be names joined by single dots'],
    [{ target_path: '__proto__.polluted' }, 'target_path', 'must be names joined by single dots'],
  ])('%j is refused when the workflow is imported', (place, field, message) => {
    const parameters = [asked('first'), asked('second', place)]
    expect(checkPlaces({ workflow_json: GRAPH, parameters })).toEqual([{ path: `body.parameters.1.${field}`, message }])
  })

  const graphs = fc.dictionary(fc.string(), fc.jsonValue(), { noNullPrototype: true })
  test('never change anything beside themselves, and no prototype, whatever they are called', () => {
    fc.assert(
      fc.property(graphs, fc.string(), fc.jsonValue(), (graph, path, value) => {
        const parameters = [asked('key', { target_path: path })]
        const before = JSON.stringify(graph)
        const filled = injectParameters({ workflow_json: graph, parameters }, { key: value })
        expect(JSON.stringify(graph)).toBe(before)
        expect(Object.getPrototypeOf(filled)).toBe(Object.getPrototypeOf({ ...graph }))
        expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
      }),
    )
  })
})
