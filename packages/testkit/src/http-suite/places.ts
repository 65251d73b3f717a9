import fc from 'fast-check'

const PARTS = 1_000_000

/**
 * A place in something of any length, each as likely as another. Not `fc.double`, whose values are spread over the
 * representable numbers: nearly all of those below 1 lie so near to 0 that they mean the first byte.
 */
export const places: fc.Arbitrary<number> = fc.nat({ max: PARTS })

/** The index that `place` means in `whole`, up to its length. */
export function placeIn(whole: { length: number }, place: number): number {
  return Math.floor((place / PARTS) * whole.length)
}
