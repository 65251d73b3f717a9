import type { Progress } from '../tool.ts'

/** `progress: 0.4`, `progress: 40%`, either with words after it. */
const PROGRESS = /^\s*progress:\s*(\d+(?:\.\d+)?|\.\d+)\s*(%)?(?:\s+(\S.*))?\s*$/i

/** What a line of a program says of its progress; undefined for any other line, which is a log line. */
export function readProgress(line: string): Progress | undefined {
  const [, number, percent, words] = PROGRESS.exec(line) ?? []
  if (number === undefined) return undefined
  const progress = percent === undefined ? Number(number) : Number(number) / 100
  if (progress > 1) return undefined
  return { progress, ...(words !== undefined && { message: words.trim() }) }
}
