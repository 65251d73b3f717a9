/** Overwrites what is in front of `bytes`, as whoever is given `headroom` may. */
export function spoilHeadroom(bytes: Uint8Array, headroom: number): void {
  new Uint8Array(bytes.buffer, bytes.byteOffset - headroom, headroom).fill(0xee)
}

/** `bytes` in pieces of these sizes, used in turn; one piece when there are none. Each piece is a copy. */
export function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  if (sizes.length === 0) return bytes.length === 0 ? [] : [Uint8Array.from(bytes)]
  const pieces: Uint8Array[] = []
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const end = at + (sizes[i % sizes.length] ?? 1)
    pieces.push(Uint8Array.from(bytes.subarray(at, end)))
    at = end
  }
  return pieces
}
