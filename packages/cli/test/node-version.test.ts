import { describe, expect, test } from 'vitest'
import { chooseNode } from '../bin/node-version.mjs'

describe('which Node runs the program', () => {
  test('the one it was started with, when it is 24', () => {
    expect(chooseNode({ version: '24.0.0', pinned: '/x/node' })).toEqual({ kind: 'here' })
    expect(chooseNode({ version: '24.21.0', pinned: undefined })).toEqual({ kind: 'here' })
  })

  test.each(['18.0.0', '20.20.2', '22.1.0', '26.0.0'])('the installed one instead of %s', (version) => {
    expect(chooseNode({ version, pinned: '/x/node' })).toEqual({ kind: 'other', node: '/x/node' })
  })

  test('none: then one line says what to do', () => {
    const choice = chooseNode({ version: '20.20.2', pinned: undefined })
    expect(choice.kind).toBe('refused')
    expect(choice).toHaveProperty('message', expect.stringMatching(/Node 24, this is 20\.20\.2.*npm ci/))
  })
})
