import { createHash, randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { type ObjectStore, ObjectTooLargeError } from '../../src/files/object-store.ts'
import { onBothStores } from './object-stores.ts'

const MANY = 1024 * 1024 * 1024

async function* pieces(...all: (Uint8Array | Error)[]): AsyncGenerator<Uint8Array> {
  for (const piece of all) {
    if (piece instanceof Error) throw piece
    yield piece
  }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

async function put(store: ObjectStore, key: string, bytes: Uint8Array): Promise<void> {
  const staged = await store.write(key, pieces(bytes), { maxBytes: MANY })
  await staged.commit()
}

async function get(
  store: ObjectStore,
  key: string,
  range?: { start: number; end: number },
): Promise<Buffer | undefined> {
  const bytes = await store.read(key, range)
  if (!bytes) return undefined
  const copies: Uint8Array[] = []
  for await (const piece of bytes) copies.push(Uint8Array.from(piece))
  return Buffer.concat(copies)
}

async function keys(store: ObjectStore): Promise<string[]> {
  return (await collect(store.list()))
    .flat()
    .map((object) => object.key)
    .sort()
}

const later = () => Date.now() + 60_000

onBothStores('an object store', (open) => {
  test('shows an object once it is committed, whole', async () => {
    await using opened = await open()
    const { store } = opened
    const bytes = randomBytes(300_000)
    const staged = await store.write('out-1', pieces(bytes.subarray(0, 7), bytes.subarray(7)), { maxBytes: MANY })
    expect(staged).toMatchObject({ size: 300_000, sha256: createHash('sha256').update(bytes).digest('hex') })
    expect(await get(store, 'out-1'), 'before its commit').toBeUndefined()
    expect(await keys(store)).toEqual([])
    await staged.commit()
    expect(bytes.equals((await get(store, 'out-1')) ?? Buffer.alloc(0))).toBe(true)
    expect(await keys(store)).toEqual(['out-1'])
    expect(await store.deleteStaged(later())).toBe(0)
  })

  test('takes objects of many parts, of none, and of exactly one', async () => {
    await using opened = await open()
    const { store } = opened
    for (const size of [0, 1, 8 * 1024 * 1024, 20 * 1024 * 1024 + 1]) {
      const bytes = randomBytes(size)
      await put(store, `out-${size}`, bytes)
      expect(bytes.equals((await get(store, `out-${size}`)) ?? Buffer.alloc(1)), `${size} bytes`).toBe(true)
    }
  })

  test('reads a range', async () => {
    await using opened = await open()
    await put(opened.store, 'out-1', Buffer.from('0123456789'))
    expect((await get(opened.store, 'out-1', { start: 2, end: 5 }))?.toString()).toBe('2345')
    expect((await get(opened.store, 'out-1', { start: 9, end: 9 }))?.toString()).toBe('9')
  })

  test('what is not there is not there, and can be deleted', async () => {
    await using opened = await open()
    expect(await get(opened.store, 'out-1')).toBeUndefined()
    await opened.store.delete('out-1')
    await put(opened.store, 'out-1', Buffer.from('x'))
    await opened.store.delete('out-1')
    expect(await get(opened.store, 'out-1')).toBeUndefined()
  })

  test.each([
    ['a source that breaks', [Buffer.alloc(9_000_000), new Error('cut')], 'cut'],
    ['a source that is too long', [Buffer.alloc(9_000_000), Buffer.alloc(2_000_000)], ObjectTooLargeError],
  ] as const)('%s leaves nothing', async (_, source, message) => {
    await using opened = await open()
    const { store } = opened
    const writing = store.write('out-1', pieces(...source), { maxBytes: 10_000_000 })
    await expect(writing).rejects.toThrow(message)
    expect(await keys(store)).toEqual([])
    expect(await store.deleteStaged(later()), 'staged').toBe(0)
  })

  test('what is discarded leaves nothing', async () => {
    await using opened = await open()
    const { store } = opened
    const staged = await store.write('out-1', pieces(Buffer.alloc(9_000_000)), { maxBytes: MANY })
    await staged.discard()
    await staged.discard()
    expect(await keys(store)).toEqual([])
    expect(await store.deleteStaged(later()), 'staged').toBe(0)
  })

  test('what a write left behind is found by its age', async () => {
    await using opened = await open()
    const { store, listsStaged } = opened
    await store.write('out-1', pieces(Buffer.alloc(9_000_000)), { maxBytes: MANY })
    expect(await store.deleteStaged(Date.now() - 60_000)).toBe(0)
    expect(await store.deleteStaged(later())).toBe(listsStaged ? 1 : 0)
  })

  test('a cut write goes on where it was, where the store can', async () => {
    await using opened = await open()
    const { store, canResume } = opened
    const bytes = randomBytes(100_000)
    const cut = pieces(bytes.subarray(0, 60_000), new Error('cut'))
    await expect(store.write('in-1', cut, { maxBytes: MANY, resume: { name: 'file-1', from: 0 } })).rejects.toThrow(
      'cut',
    )
    const from = await store.resumableBytes('file-1')
    expect(from).toBe(canResume ? 60_000 : 0)
    const rest = pieces(bytes.subarray(from))
    const staged = await store.write('in-1', rest, { maxBytes: MANY, resume: { name: 'file-1', from } })
    expect(staged.sha256).toBe(createHash('sha256').update(bytes).digest('hex'))
    await staged.commit()
    expect(bytes.equals((await get(store, 'in-1')) ?? Buffer.alloc(0))).toBe(true)
    expect(await store.resumableBytes('file-1')).toBe(0)
  })

  test('lists more objects than fit one page', async () => {
    await using opened = await open()
    const { store } = opened
    const made = Array.from({ length: 510 }, (_, at) => `out-${String(at).padStart(4, '0')}`)
    await Promise.all(made.map((key) => put(store, key, Buffer.from(key))))
    expect(await keys(store)).toEqual(made)
  }, 120_000)
})
