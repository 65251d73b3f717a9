import fc from 'fast-check'
import { expect, test } from 'vitest'
import { EventReader, EventStreamError } from '../src/event-reader.ts'

const read = (text: string) => new EventReader().push(Buffer.from(text))

test('fields make an event, an empty line ends it', () => {
  expect(read('id: 7\nevent: log\ndata: {"line":"x"}\n\n')).toEqual([{ id: '7', event: 'log', data: '{"line":"x"}' }])
})

test.each([
  ['CR LF', 'id: 1\r\ndata: a\r\n\r\n'],
  ['CR', 'id: 1\rdata: a\r\r\n'],
  ['no blank after the colon', 'id:1\ndata:a\n\n'],
  ['comments and unknown fields', ': hi\nid: 1\nnews: x\ndata: a\n\n'],
])('%s is read alike', (_, text) => {
  expect(read(text)).toEqual([{ id: '1', event: 'message', data: 'a' }])
})

test('several data lines are one text, a field without colon is empty, an event without data is none', () => {
  expect(read('data: a\ndata\ndata:  b\n\nevent: x\n\n')).toEqual([
    { id: undefined, event: 'message', data: 'a\n\n b' },
  ])
})

test('retry is taken when it is a number', () => {
  const reader = new EventReader()
  reader.push(Buffer.from('retry: soon\n\n'))
  expect(reader.retryMs).toBeUndefined()
  reader.push(Buffer.from('retry: 2000\n\n'))
  expect(reader.retryMs).toBe(2000)
})

test('how the bytes are cut never matters', () => {
  const line = fc.string({ unit: 'grapheme', maxLength: 30 }).map((text) => text.replace(/[\r\n]/g, ' '))
  const ending = fc.constantFrom('\n', '\r\n')
  const events = fc.array(fc.record({ line, ending }), { maxLength: 20 })
  fc.assert(
    fc.property(events, fc.array(fc.integer({ min: 1, max: 9 })), (sent, sizes) => {
      const bytes = Buffer.from(
        sent.map(({ line, ending: end }, at) => `id: ${at}${end}data: ${line}${end}${end}`).join(''),
      )
      const reader = new EventReader()
      const got = []
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const size = sizes[turn % Math.max(1, sizes.length)] ?? bytes.length
        got.push(...reader.push(bytes.subarray(at, at + size)))
        at += size
      }
      expect(got).toEqual(sent.map(({ line }, at) => ({ id: String(at), event: 'message', data: line })))
    }),
  )
})

test('an event without end is refused', () => {
  const reader = new EventReader()
  const line = Buffer.from(`data: ${'x'.repeat(1024 * 1024)}\n`)
  expect(() => {
    for (let sent = 0; sent < 20; sent++) reader.push(line)
  }).toThrow(EventStreamError)
})
