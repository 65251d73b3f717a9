import type { Log } from '@cyberun/link/log'
import type { Bus } from '../bus.ts'
import type { Store } from '../store/store.ts'
import type { Reach } from './fail-points.ts'
import type { ObjectStore } from './object-store.ts'
import type { UrlSigner } from './signed-urls.ts'

export interface FileLimits {
  maxInputBytes: number
  maxArtifactBytes: number
  /** How long an input is kept after its upload, and an artifact after it was made. */
  inputRetentionMs: number
  outputRetentionMs: number
}

/** What every part of this folder works with. */
export interface FileContext {
  store: Store
  objects: ObjectStore
  bus: Bus
  log: Log
  /** Milliseconds since 1970. */
  now(): number
  newId(): string
  signer: UrlSigner
  limits: FileLimits
  reach: Reach
}

/** Below this path are the files, and nothing else. */
export const FILES_PATH = '/files/'
const INPUTS_PATH = `${FILES_PATH}inputs/`
const ARTIFACTS_PATH = `${FILES_PATH}artifacts/`

export function inputPath(fileKey: string): string {
  return INPUTS_PATH + fileKey
}

export function artifactPath(artifactId: string): string {
  return ARTIFACTS_PATH + artifactId
}

/** What a path of the file door names. */
export function readFilePath(path: string): { kind: 'input' | 'artifact'; id: string } | undefined {
  const [, kind, id] = /^\/files\/(inputs|artifacts)\/([\w-]{1,64})$/.exec(path) ?? []
  if (kind === undefined || id === undefined) return undefined
  return { kind: kind === 'inputs' ? 'input' : 'artifact', id }
}
