import { validateHeaderValue } from 'node:http'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { attachmentOf } from '../../src/files/content-disposition.ts'
import { readRange, readUploadStart } from '../../src/files/range.ts'
import { parseS3Url } from '../../src/files/s3-place.ts'

test.each([
  ['bytes=0-4', { kind: 'part', range: { start: 0, end: 4 } }],
  ['bytes=5-', { kind: 'part', range: { start: 5, end: 9 } }],
  ['bytes=-3', { kind: 'part', range: { start: 7, end: 9 } }],
  ['bytes=-99', { kind: 'part', range: { start: 0, end: 9 } }],
  ['bytes=8-99', { kind: 'part', range: { start: 8, end: 9 } }],
  ['BYTES = 1-1', { kind: 'part', range: { start: 1, end: 1 } }],
  ['bytes=10-', { kind: 'unsatisfiable' }],
  ['bytes=-0', { kind: 'unsatisfiable' }],
  ['bytes=5-4', { kind: 'whole' }],
  ['bytes=0-1,4-5', { kind: 'whole' }],
  ['bytes=-', { kind: 'whole' }],
  ['items=0-4', { kind: 'whole' }],
  ['bytes=a-b', { kind: 'whole' }],
  ['bytes=0x1-2', { kind: 'whole' }],
  [undefined, { kind: 'whole' }],
])('of ten bytes, %j is %j', (field, answer) => {
  expect(readRange(field, 10)).toEqual(answer)
})

test('of no bytes nothing can be a part', () => {
  expect(readRange('bytes=0-', 0)).toEqual({ kind: 'unsatisfiable' })
  expect(readRange('bytes=-1', 0)).toEqual({ kind: 'unsatisfiable' })
})

test('a partial upload brings everything from its start on', () => {
  expect(readUploadStart('bytes 4-9/10', 10)).toBe(4)
  for (const field of ['bytes 4-8/10', 'bytes 4-9/11', 'bytes 10-9/10', 'bytes */10', 'bytes 4-9/*', '4-9/10']) {
    expect(readUploadStart(field, 10), field).toBeUndefined()
  }
})

test.each([
  ['cat.png', `attachment; filename="cat.png"; filename*=UTF-8''cat.png`],
  ['naïve.txt', `attachment; filename="na_ve.txt"; filename*=UTF-8''na%C3%AFve.txt`],
  [`it's (1).png`, `attachment; filename="it's (1).png"; filename*=UTF-8''it%27s%20%281%29.png`],
  ['a"; x="b\r\nX: y', `attachment; filename="a_; x=_bX_ y"; filename*=UTF-8''a_%3B%20x%3D_bX_%20y`],
  ['../../猫', `attachment; filename="_"; filename*=UTF-8''%E7%8C%AB`],
])('the name %j goes out as %s', (name, field) => {
  expect(attachmentOf(name)).toBe(field)
})

test('whatever the name, the header is one that Node sends and that ends where it should', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (name) => {
      const field = attachmentOf(name)
      validateHeaderValue('content-disposition', field)
      expect(field).toMatch(/^attachment; filename="[^"\\]*"; filename\*=UTF-8''[\w!#$&+.^`|~%-]+$/)
    }),
  )
})

test('a bucket is one URL', () => {
  expect(parseS3Url('s3://key:se%2Fcret@objects.example.org:9000/cyberun?region=eu-west-1&tls=off')).toEqual({
    endpoint: 'http://objects.example.org:9000',
    bucket: 'cyberun',
    region: 'eu-west-1',
    credentials: { accessKeyId: 'key', secretAccessKey: 'se/cret' },
  })
  expect(parseS3Url('s3://s3.amazonaws.com/cyberun')).toEqual({
    endpoint: 'https://s3.amazonaws.com',
    bucket: 'cyberun',
    region: 'us-east-1',
  })
})

test.each([
  ['s3://host', 'one bucket'],
  ['s3://host/ab', 'at least three characters'],
  ['s3://host/bucket/folder', 'one bucket'],
  ['s3://key:hunter2@host/bucket?regoin=x', 'no option regoin'],
  ['s3://key:hunter2%@host/bucket', 'percent-encoded'],
])('%s is refused: %s', (url, message) => {
  expect(() => parseS3Url(url)).toThrow(message)
  expect(() => parseS3Url(url)).not.toThrow('hunter2')
})
