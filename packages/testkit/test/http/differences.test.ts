import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  ANSWER_DIFFERENCES,
  OTHER_DIFFERENCES,
  PREFIXED_ANSWER_FIELDS,
  REQUEST_DIFFERENCES,
} from '../../src/http-suite/differences.ts'

const page = readFileSync(new URL('../../../../docs/http.md', import.meta.url), 'utf8')

/** The names in the first column of the tables below `heading`. */
function rowsBelow(heading: string): string[] {
  const section = page.split(/^## /m).find((part) => part.startsWith(heading)) ?? ''
  return [...section.matchAll(/^\| (.+?) \| .+ \|$/gm)]
    .map(([, name = '']) => name)
    .filter((name) => !['field', 'what', '---'].includes(name))
}

describe('docs/http.md lists what the suite lets differ', () => {
  test.each([
    ['Fields the service sees', REQUEST_DIFFERENCES],
    ['Fields the visitor sees', [...ANSWER_DIFFERENCES, ...PREFIXED_ANSWER_FIELDS]],
    ['Everything else', OTHER_DIFFERENCES],
  ])('%s', (heading, differences) => {
    expect(rowsBelow(heading)).toEqual(differences.map(({ name }) => name))
  })
})
