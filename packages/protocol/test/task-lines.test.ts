import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FieldError } from '../src/fields.ts'
import {
  ARTIFACT_REFUSALS,
  INPUT_REFUSALS,
  parseArtifactAnswer,
  parseArtifactHeader,
  parseInputAnswer,
  parseInputRequest,
} from '../src/file-lines.ts'
import {
  DECLINE_REASONS,
  parseAgentTaskLine,
  parseServerTaskLine,
  TASK_FAULTS,
  TASK_LIMITS,
} from '../src/task-lines.ts'

const page = readFileSync(new URL('../../../docs/protocol.md', import.meta.url), 'utf8')

/** The lines of the blocks of docs/protocol.md with this mark. */
const block = (mark: string): string[] =>
  [...page.matchAll(new RegExp(`^\`\`\`${mark}\n([^]*?)^\`\`\``, 'gm'))]
    .flatMap((match) => (match[1] ?? '').split('\n'))
    .filter((line) => line !== '')

const PARSERS = {
  'server-task-lines': parseServerTaskLine,
  'agent-task-lines': parseAgentTaskLine,
  'artifact-lines': parseArtifactHeader,
  'artifact-answers': parseArtifactAnswer,
  'input-lines': parseInputRequest,
  'input-answers': parseInputAnswer,
} as const satisfies Record<string, (line: string) => unknown>

const marks = Object.keys(PARSERS) as (keyof typeof PARSERS)[]

describe.each(marks)('the %s of docs/protocol.md', (mark) => {
  const parse: (line: string) => unknown = PARSERS[mark]

  test.each(block(mark))('%s', (line) => {
    expect(parse(line)).toEqual(JSON.parse(line))
  })

  test('are read with members of a later version, which are left out', () => {
    for (const line of block(mark)) {
      expect(parse(JSON.stringify({ ...JSON.parse(line), quantum: true }))).toEqual(JSON.parse(line))
    }
  })

  test('lack no member, and no member is something else: each is refused by name or does not matter', () => {
    for (const line of block(mark)) {
      const fields = JSON.parse(line)
      for (const name of Object.keys(fields)) {
        const { [name]: _, ...without } = fields
        for (const wrong of [
          without,
          ...[null, -1, 1.5, [[]], { a: 1 }, ''].map((raw) => ({ ...fields, [name]: raw })),
        ]) {
          try {
            parse(JSON.stringify(wrong))
          } catch (error) {
            expect(error).toBeInstanceOf(FieldError)
            expect((error as Error).message.startsWith(name)).toBe(true)
          }
        }
      }
    }
  })

  test('of anything at all are a line, or a FieldError', () => {
    const examples = block(mark).map((line) => JSON.parse(line))
    const change = fc.tuple(fc.constantFrom(...examples), fc.string(), fc.jsonValue({ maxDepth: 3 }))
    fc.assert(
      fc.property(fc.oneof(change, change), ([example, anyName, value]) => {
        const names = Object.keys(example)
        for (const name of [names[anyName.length % names.length] ?? anyName, anyName]) {
          try {
            parse(JSON.stringify({ ...example, [name]: value }))
          } catch (error) {
            expect(error).toBeInstanceOf(FieldError)
          }
        }
      }),
    )
  })

  test.each(['', 'x', '[]', '7', 'null', '{"type":'])('the line %j is refused', (line) => {
    expect(() => parse(line)).toThrow(FieldError)
  })
})

test.each(block('refused-agent-task-lines'))('a server refuses %s', (line) => {
  expect(() => parseAgentTaskLine(line)).toThrow(FieldError)
})

test('there is an example of every type of line', () => {
  const types = (mark: string) => new Set(block(mark).map((line) => JSON.parse(line).type))
  expect(types('server-task-lines')).toEqual(new Set(['assign', 'ack', 'lease', 'cancel', 'late', 'attached']))
  const ofAgents = ['accepted', 'declined', 'event', 'progress', 'preview', 'cancelling', 'finished', 'attach']
  expect(types('agent-task-lines')).toEqual(new Set(ofAgents))
})

test('every reason, fault and refusal is in a table of the page', () => {
  for (const word of [...DECLINE_REASONS, ...TASK_FAULTS, ...ARTIFACT_REFUSALS]) {
    expect(page).toMatch(new RegExp(`^\\| \`${word}\` +\\| `, 'm'))
  }
  for (const word of INPUT_REFUSALS) expect(page).toContain(`\`${word}\``)
})

test('lines of a later version are skipped', () => {
  expect(parseAgentTaskLine('{"type":"weather"}')).toBeUndefined()
  expect(parseServerTaskLine('{"type":"weather"}')).toBeUndefined()
})

describe('bounds', () => {
  const note = (message: unknown) =>
    parseAgentTaskLine(JSON.stringify({ type: 'event', sequence: 1, event: { kind: 'note', message } }))
  const finished = (output: unknown) =>
    parseAgentTaskLine(JSON.stringify({ type: 'finished', sequence: 1, outcome: { kind: 'completed', output } }))
  const nested = (levels: number): string => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`

  test('what no database keeps is replaced where programs write', () => {
    expect(note('a\0b\ud800c')).toMatchObject({ event: { message: 'a\ufffdb\ufffdc' } })
    expect(note('\u001b[31mred\u001b[0m\n')).toMatchObject({ event: { message: '\u001b[31mred\u001b[0m\n' } })
  })

  test('text ends at its bound', () => {
    expect(note('x'.repeat(TASK_LIMITS.messageCharacters))).toBeDefined()
    expect(() => note('x'.repeat(TASK_LIMITS.messageCharacters + 1))).toThrow(FieldError)
  })

  test('an output nested too deeply is refused, however deep it is', () => {
    expect(finished(JSON.parse(nested(TASK_LIMITS.jsonLevels)))).toBeDefined()
    const line = (levels: number) =>
      `{"type":"finished","sequence":1,"outcome":{"kind":"completed","output":${nested(levels)}}}`
    expect(() => parseAgentTaskLine(line(TASK_LIMITS.jsonLevels + 1))).toThrow('outcome.output must be nested at most')
    expect(() => parseAgentTaskLine(line(40_000))).toThrow(FieldError)
  })

  test('a log event has at most so many lines', () => {
    const log = (count: number) => {
      const lines = Array.from({ length: count }, () => ({ stream: 'stdout', line: 'x', timestamp: 't' }))
      return parseAgentTaskLine(JSON.stringify({ type: 'event', sequence: 1, event: { kind: 'log', lines } }))
    }
    expect(log(TASK_LIMITS.logLines)).toBeDefined()
    expect(() => log(TASK_LIMITS.logLines + 1)).toThrow('event.lines must be a list of at most')
  })
})
