/**
 * Control characters (C0, DEL, C1), line separators and the marks that reorder text: what a name could use to move the
 * cursor, change a title or show something other than it says.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff]/gu

/** `text` with everything a terminal would obey written out as `\u{1b}`, on one line. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`)
}

/** JSON on one line, for a terminal or a pipe: the same value, with what a terminal obeys as JSON escapes. */
export function printableJson(value: unknown): string {
  const asEscape = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  return JSON.stringify(value).replace(UNPRINTABLE, asEscape)
}

/** `1.5 MiB`: binary units with at most one decimal. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** `3 min ago`: how long before `now` (milliseconds) an ISO 8601 time was, roughly; `-` for null. */
export function formatAge(iso: string | null, now: number): string {
  if (iso === null) return '-'
  const seconds = Math.max(0, Math.round((now - Date.parse(iso)) / 1000))
  if (seconds < 60) return `${seconds} s ago`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`
  return `${Math.floor(seconds / 86_400)} d ago`
}

/** `in 29 min`: how long after `now` (milliseconds) an ISO 8601 time is, roughly; `now` when it has come. */
export function formatUntil(iso: string, now: number): string {
  const seconds = Math.round((Date.parse(iso) - now) / 1000)
  if (seconds <= 0) return 'now'
  if (seconds < 60) return `in ${seconds} s`
  if (seconds < 3600) return `in ${Math.round(seconds / 60)} min`
  return `in ${(seconds / 3600).toFixed(1).replace('.0', '')} h`
}
