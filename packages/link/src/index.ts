export type { Chunk, LinkStream, StreamEvents, StreamHandler } from '@cyberun/protocol'
export type { Link, LinkStats } from './types.ts'
