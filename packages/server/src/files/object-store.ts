/** Where an object's bytes are. Ours, never a caller's text: `[a-z0-9-]{4,64}`, and never used twice. */
export type ObjectKey = string

/** Bytes `start` to `end`, both included, as in a Range field. */
export interface ByteRange {
  start: number
  end: number
}

/** What was written whole and is not visible yet. Exactly one of `commit` and `discard` is to be called. */
export interface StagedObject {
  readonly size: number
  /** SHA-256 of all its bytes, hex. */
  readonly sha256: string
  /** Makes it readable under its key, all at once. It is durable when this resolves. Throws `StorageFullError`. */
  commit(): Promise<void>
  /** Forgets it. Harmless when its bytes are gone already. */
  discard(): Promise<void>
}

export interface WriteOptions {
  /** More than this is `ObjectTooLargeError`. */
  maxBytes: number
  /**
   * Keeps the bytes of a write that was cut short under this name, made like a key, and goes on after the first `from`
   * bytes kept there (`resumableBytes`). One write with a name at a time.
   */
  resume?: { name: string; from: number }
}

/** An object as `list` finds it. */
export interface StoredObject {
  key: ObjectKey
  /** When its bytes were last written, by the object store's clock, in milliseconds since 1970. */
  modifiedAt: number
}

/**
 * Keeps bytes under keys. An object is either there whole or not there. What is there and should not be (a process died
 * between commit and row) is found by `list`; only the sweep reads that.
 */
export interface ObjectStore {
  /**
   * Takes all bytes of `source`, each piece consumed before the next is asked for. Throws `ObjectTooLargeError`,
   * `StorageFullError` or what `source` throws; nothing is left then but what `resume` keeps.
   */
  write(key: ObjectKey, source: AsyncIterable<Uint8Array>, options: WriteOptions): Promise<StagedObject>
  /** How many bytes of a cut write `write` can go on from; 0 where a store cannot. */
  resumableBytes(name: string): Promise<number>
  /**
   * The bytes, or undefined when there is no such object. Each piece is valid until the next is asked for. Iterate it:
   * what is open behind it is closed at the end or when the loop is left.
   */
  read(key: ObjectKey, range?: ByteRange): Promise<AsyncIterable<Uint8Array> | undefined>
  /** Harmless for an object that is not there. */
  delete(key: ObjectKey): Promise<void>
  /** Every committed object, in pages. */
  list(): AsyncIterable<StoredObject[]>
  /** Removes what cut writes left behind when nothing was added to it since `before`. Returns how many. */
  deleteStaged(before: number): Promise<number>
}

/** The source has more bytes than it may. */
export class ObjectTooLargeError extends Error {
  override readonly name = 'ObjectTooLargeError'
}

/** The disk or bucket takes no more. What was written of this object is gone, so that others fit. */
export class StorageFullError extends Error {
  override readonly name = 'StorageFullError'
}
