import type { JsonObject } from './model.ts'

/**
 * Readers of what a peer wrote in JSON: each checks one member, bounds it, and throws `FieldError` with its path. Used by
 * the parsers of this package only.
 */

/** A peer's field is missing or out of bounds; the message names the field and says what it must be. */
export class FieldError extends Error {
  constructor(path: string, expected: string) {
    super(`${path} must be ${expected}`)
    this.name = 'FieldError'
  }
}

const PRINTABLE = /^[^\p{Cc}\p{Cs}]*$/u

/** One line as a JSON object; `what` names it in the error. */
export function jsonObject(what: string, line: string): JsonObject {
  let raw: unknown
  try {
    raw = JSON.parse(line)
  } catch {
    // JSON.parse throws for exactly one reason.
    throw new FieldError(what, 'one JSON object')
  }
  return object(what, raw)
}

export function object(path: string, raw: unknown): JsonObject {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) throw new FieldError(path, 'an object')
  return raw as JsonObject
}

/**
 * Any object whose nesting stays within `deepest`: what is nested deeper cannot be written as JSON again without the
 * risk of an overflowing stack.
 */
export function boundedObject(path: string, raw: unknown, deepest: number): JsonObject {
  const value = object(path, raw)
  if (!isShallow(value, deepest)) throw new FieldError(path, `nested at most ${deepest} levels deep`)
  return value
}

export function list(path: string, raw: unknown, most: number): readonly unknown[] {
  if (!Array.isArray(raw) || raw.length > most) throw new FieldError(path, `a list of at most ${most}`)
  return raw
}

/** A short text that may stand in a log, a header or a table: no control characters, no broken surrogates. */
export function text(path: string, raw: unknown, most: number): string {
  if (typeof raw !== 'string' || raw.length > most || !PRINTABLE.test(raw)) {
    throw new FieldError(path, `a string of at most ${most} printable characters`)
  }
  return raw
}

export function optionalText(path: string, raw: unknown, most: number): string | null {
  return raw === undefined || raw === null ? null : text(path, raw, most)
}

/**
 * What a program or a person wrote, line breaks and colours and all. NUL and broken surrogates, which no database keeps,
 * become U+FFFD: a tool's odd output is no reason to refuse its line.
 */
export function prose(path: string, raw: unknown, most: number): string {
  if (typeof raw !== 'string' || raw.length > most) throw new FieldError(path, `a string of at most ${most} characters`)
  return raw.toWellFormed().replaceAll('\0', '\ufffd')
}

export function whole(path: string, raw: unknown, least: number, most: number): number {
  if (typeof raw !== 'number' || !Number.isSafeInteger(raw) || raw < least || raw > most) {
    throw new FieldError(path, `a whole number from ${least} to ${most}`)
  }
  return raw
}

/** A number of 0 to 1. */
export function share(path: string, raw: unknown): number {
  if (typeof raw !== 'number' || !(raw >= 0 && raw <= 1)) throw new FieldError(path, 'a number from 0 to 1')
  return raw
}

export function matching(path: string, raw: unknown, pattern: RegExp, expected: string): string {
  if (typeof raw !== 'string' || !pattern.test(raw)) throw new FieldError(path, expected)
  return raw
}

export function oneOf<T extends string>(path: string, raw: unknown, values: readonly T[]): T {
  const found = values.find((value) => value === raw)
  if (found === undefined) throw new FieldError(path, `one of ${values.join(', ')}`)
  return found
}

function isShallow(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return true
  return levels > 0 && Object.values(value).every((inner) => isShallow(inner, levels - 1))
}
