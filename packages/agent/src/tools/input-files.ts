import { FILE_PLACEHOLDER, type Run } from './tool.ts'

/** Fetches the file that a value stands for, and returns its path; any other value as it is. */
export async function withFile(run: Run, value: unknown): Promise<unknown> {
  if (typeof value !== 'string' || !value.startsWith(FILE_PLACEHOLDER)) return value
  const { path } = await run.input(value.slice(FILE_PLACEHOLDER.length))
  return path
}
