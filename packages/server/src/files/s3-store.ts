import { createHash } from 'node:crypto'
import type { CompletedPart, MultipartUpload, S3Client } from '@aws-sdk/client-s3'
import { ApiError } from '@cyberun/api'
import {
  type ByteRange,
  type ObjectKey,
  type ObjectStore,
  ObjectTooLargeError,
  type StagedObject,
  StorageFullError,
  type StoredObject,
  type WriteOptions,
} from './object-store.ts'
import type { S3Place } from './s3-place.ts'

type Sdk = typeof import('@aws-sdk/client-s3')

/** At least 5 MiB (S3's rule for all parts but the last); 10,000 of them are 80 GB, and one is in memory at a time. */
const PART_BYTES = 8 * 1024 * 1024
const PAGE_OBJECTS = 500

/** Objects in a bucket. A large one is a multipart upload, which S3 shows whole or not at all. */
export async function openS3Store(place: S3Place): Promise<ObjectStore> {
  // 22 MB of modules: only those who use it load it.
  const sdk = await import('@aws-sdk/client-s3')
  const client = new sdk.S3Client({
    ...{ endpoint: place.endpoint, region: place.region, forcePathStyle: true },
    ...(place.credentials && { credentials: place.credentials }),
    // By default every request carries a checksum that stores other than AWS do not know.
    ...{ requestChecksumCalculation: 'WHEN_REQUIRED', responseChecksumValidation: 'WHEN_REQUIRED' },
  })
  return new S3Store(sdk, client, place.bucket)
}

class S3Store implements ObjectStore {
  readonly #sdk: Sdk
  readonly #client: S3Client
  readonly #bucket: string

  constructor(sdk: Sdk, client: S3Client, bucket: string) {
    this.#sdk = sdk
    this.#client = client
    this.#bucket = bucket
  }

  async write(key: ObjectKey, source: AsyncIterable<Uint8Array>, { maxBytes }: WriteOptions): Promise<StagedObject> {
    const hash = createHash('sha256')
    const upload = new PartUpload(this.#sdk, this.#client, { Bucket: this.#bucket, Key: key })
    let size = 0
    try {
      for await (const piece of source) {
        size += piece.length
        if (size > maxBytes) throw new ObjectTooLargeError(`more than ${maxBytes} bytes came`)
        hash.update(piece)
        await upload.add(piece)
      }
    } catch (error) {
      await upload.abort()
      throw error
    }
    return {
      size,
      sha256: hash.digest('hex'),
      commit: () => upload.finish(),
      discard: () => upload.abort(),
    }
  }

  resumableBytes(): Promise<number> {
    return Promise.resolve(0)
  }

  async read(key: ObjectKey, range?: ByteRange): Promise<AsyncIterable<Uint8Array> | undefined> {
    const { GetObjectCommand, NoSuchKey } = this.#sdk
    const command = new GetObjectCommand({
      ...{ Bucket: this.#bucket, Key: key },
      ...(range && { Range: `bytes=${range.start}-${range.end}` }),
    })
    try {
      const { Body } = await this.#client.send(command)
      // In Node the body is a Readable; the SDK's type also covers browsers.
      return Body as AsyncIterable<Uint8Array> | undefined
    } catch (error) {
      if (error instanceof NoSuchKey) return undefined
      throw storeError(error)
    }
  }

  async delete(key: ObjectKey): Promise<void> {
    const { DeleteObjectCommand } = this.#sdk
    await this.#client.send(new DeleteObjectCommand({ Bucket: this.#bucket, Key: key })).catch(rethrow)
  }

  async *list(): AsyncIterable<StoredObject[]> {
    // The first version of this call: every store knows it, and its marker is a plain key.
    const { ListObjectsCommand } = this.#sdk
    for (let Marker: string | undefined, isMore = true; isMore; ) {
      const command = new ListObjectsCommand({ Bucket: this.#bucket, MaxKeys: PAGE_OBJECTS, Marker })
      const { Contents = [], IsTruncated } = await this.#client.send(command).catch(rethrow)
      yield Contents.flatMap(({ Key, LastModified }) =>
        Key === undefined || LastModified === undefined ? [] : [{ key: Key, modifiedAt: LastModified.getTime() }],
      )
      Marker = Contents.at(-1)?.Key
      isMore = IsTruncated === true && Marker !== undefined
    }
  }

  async deleteStaged(before: number): Promise<number> {
    const { AbortMultipartUploadCommand } = this.#sdk
    const old = (await this.#uploads()).filter(
      ({ Initiated }) => Initiated !== undefined && Initiated.getTime() < before,
    )
    for (const { Key, UploadId } of old) {
      await this.#client.send(new AbortMultipartUploadCommand({ Bucket: this.#bucket, Key, UploadId })).catch(rethrow)
    }
    return old.length
  }

  /** The uploads that never ended: a page of them, the next sweep sees the next. */
  async #uploads(): Promise<readonly MultipartUpload[]> {
    const { ListMultipartUploadsCommand } = this.#sdk
    try {
      return (await this.#client.send(new ListMultipartUploadsCommand({ Bucket: this.#bucket }))).Uploads ?? []
    } catch (error) {
      // Some that speak like S3 cannot tell; their buckets have a rule for it (docs/files.md).
      if (error instanceof Error && error.name === 'NotImplemented') return []
      throw storeError(error)
    }
  }
}

/** One object on its way: in memory up to one part, then part by part. */
class PartUpload {
  readonly #sdk: Sdk
  readonly #client: S3Client
  readonly #place: { Bucket: string; Key: string }
  readonly #parts: CompletedPart[] = []
  #uploadId: string | undefined
  #part = Buffer.alloc(0)
  #filled = 0

  constructor(sdk: Sdk, client: S3Client, place: { Bucket: string; Key: string }) {
    this.#sdk = sdk
    this.#client = client
    this.#place = place
  }

  async add(piece: Uint8Array): Promise<void> {
    for (let from = 0; from < piece.length; ) {
      if (this.#filled === this.#part.length) await this.#makeRoom(piece.length - from)
      const taken = piece.subarray(from, from + this.#part.length - this.#filled)
      this.#part.set(taken, this.#filled)
      this.#filled += taken.length
      from += taken.length
    }
  }

  async finish(): Promise<void> {
    const Body = this.#part.subarray(0, this.#filled)
    if (this.#uploadId === undefined) {
      await this.#client.send(new this.#sdk.PutObjectCommand({ ...this.#place, Body })).catch(rethrow)
      return
    }
    if (this.#filled > 0) await this.#sendPart()
    const MultipartUpload = { Parts: this.#parts }
    const command = { ...this.#place, UploadId: this.#uploadId, MultipartUpload }
    await this.#client.send(new this.#sdk.CompleteMultipartUploadCommand(command)).catch(rethrow)
  }

  /** What fails here is found by the sweep. */
  async abort(): Promise<void> {
    if (this.#uploadId === undefined) return
    const command = new this.#sdk.AbortMultipartUploadCommand({ ...this.#place, UploadId: this.#uploadId })
    await this.#client.send(command).catch(() => {})
  }

  /** A small object gets a small buffer; a full part is sent and its buffer used again. */
  async #makeRoom(wanted: number): Promise<void> {
    if (this.#filled < PART_BYTES) {
      const bytes = Math.min(PART_BYTES, Math.max(this.#part.length * 2, wanted, 64 * 1024))
      const larger = Buffer.alloc(bytes)
      larger.set(this.#part)
      this.#part = larger
    } else await this.#sendPart()
  }

  async #sendPart(): Promise<void> {
    const { CreateMultipartUploadCommand, UploadPartCommand } = this.#sdk
    this.#uploadId ??= (await this.#client.send(new CreateMultipartUploadCommand(this.#place)).catch(rethrow)).UploadId
    const PartNumber = this.#parts.length + 1
    const Body = this.#part.subarray(0, this.#filled)
    const command = new UploadPartCommand({ ...this.#place, UploadId: this.#uploadId, PartNumber, Body })
    const { ETag } = await this.#client.send(command).catch(rethrow)
    this.#parts.push({ PartNumber, ETag })
    this.#filled = 0
  }
}

/** What S3 and those that speak like it answer when there is no room. */
const FULL = ['XMinioStorageFull', 'QuotaExceeded', 'InsufficientStorage', 'ServiceQuotaExceededException']

function storeError(error: unknown): Error {
  if (error instanceof Error && FULL.includes(error.name)) {
    return new StorageFullError('the bucket is full', { cause: error })
  }
  const message = 'The file storage does not answer now. Try again in a moment.'
  return new ApiError('unavailable', message, { retryAfterSeconds: 5, cause: error })
}

function rethrow(error: unknown): never {
  throw storeError(error)
}
