import type { ByteRange } from './object-store.ts'

export type RangeAnswer = { kind: 'whole' } | { kind: 'part'; range: ByteRange } | { kind: 'unsatisfiable' }

const WHOLE: RangeAnswer = { kind: 'whole' }
const SINGLE = /^bytes[\t ]*=[\t ]*(\d{0,16})-(\d{0,16})[\t ]*$/i

/**
 * What a Range field asks of `size` bytes. A unit we do not know, what is not well-formed and a list of ranges mean the
 * whole, as RFC 9110 section 14.2 allows; a range that begins behind the end is unsatisfiable (section 14.1.2).
 */
export function readRange(field: string | undefined, size: number): RangeAnswer {
  const [, first, last] = SINGLE.exec(field ?? '') ?? []
  if (first === undefined || last === undefined || (first === '' && last === '')) return WHOLE
  if (first === '') return suffix(Number(last), size)
  const start = Number(first)
  if (last !== '' && Number(last) < start) return WHOLE
  if (start >= size) return { kind: 'unsatisfiable' }
  return { kind: 'part', range: { start, end: Math.min(last === '' ? size - 1 : Number(last), size - 1) } }
}

/** The last `count` bytes. */
function suffix(count: number, size: number): RangeAnswer {
  if (count === 0 || size === 0) return { kind: 'unsatisfiable' }
  return { kind: 'part', range: { start: Math.max(0, size - count), end: size - 1 } }
}

const CONTENT_RANGE = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16})$/

/** Where a partial PUT starts (RFC 9110 section 14.5), when it brings everything from there to the end of `size` bytes. */
export function readUploadStart(field: string, size: number): number | undefined {
  const [, first, last, total] = CONTENT_RANGE.exec(field)?.map(Number) ?? []
  if (first === undefined || first > Number(last) || last !== size - 1 || total !== size) return undefined
  return first
}
