export type { Chunk, Link, LinkStats, LinkStream, StreamEvents, StreamHandler } from './types.ts'
