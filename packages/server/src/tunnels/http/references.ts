import type { Door, LocalTarget } from './door.ts'

/**
 * URLs in header fields, between how the service names itself and how its visitors do. Text in, text out: what is not
 * certainly a reference to the tunnelled service stays as it is, byte for byte.
 */

/** A URL reference in an answer (Location, Content-Location, Link, Refresh), as the visitor must follow it. */
export function toVisitor(reference: string, door: Door, target: LocalTarget): string {
  for (const origin of [...target.origins, door.origin]) {
    const path = pathUnder(reference, origin)
    if (path !== undefined) return door.origin + withPrefix(path, door.prefix)
  }
  // `//host/…` names another host and is not a path.
  return reference.startsWith('/') && !reference.startsWith('//') ? withPrefix(reference, door.prefix) : reference
}

/** A URL the visitor's browser names (Referer), as it would be without the tunnel; undefined when it is not below it. */
export function toService(reference: string, door: Door, target: LocalTarget): string | undefined {
  const path = pathUnder(reference, door.origin)
  if (path === undefined) return undefined
  if (door.prefix === '') return target.origin + path
  const inside = pathUnder(path, door.prefix)
  if (inside === undefined) return undefined
  return target.origin + (door.pathMode === 'keep' ? path : inside)
}

/** What follows `base` in `url`, when it ends there or goes on with a path, a query or a fragment. */
export function pathUnder(url: string, base: string): string | undefined {
  if (url.length < base.length || url.slice(0, base.length).toLowerCase() !== base.toLowerCase()) return undefined
  const rest = url.slice(base.length)
  if (rest.startsWith('/')) return rest
  return rest === '' || rest.startsWith('?') || rest.startsWith('#') ? `/${rest}` : undefined
}

function withPrefix(path: string, prefix: string): string {
  // A service that was told its prefix, or echoes a URL it was given, has it in front already.
  return prefix === '' || pathUnder(path, prefix) !== undefined ? path : prefix + path
}

/** The `url=` of a Refresh field. */
export function refreshToVisitor(value: string, door: Door, target: LocalTarget): string {
  return value.replace(
    /^([^;,]*[;,]\s*url\s*=\s*)(["']?)([^"']*)/i,
    (_, start: string, quote: string, url: string) => start + quote + toVisitor(url, door, target),
  )
}

/** Every `<…>` of a Link field. */
export function linkToVisitor(value: string, door: Door, target: LocalTarget): string {
  return value.replace(/<([^>]*)>/g, (_, url: string) => `<${toVisitor(url, door, target)}>`)
}
