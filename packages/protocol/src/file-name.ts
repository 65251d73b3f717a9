import { utf8Encode } from './utf8.ts'

/** Longest name in UTF-8 bytes: every file system we meet takes 255, and a suffix or a prefix must still fit. */
const MOST_BYTES = 200
/** An ending such as `.safetensors` is worth keeping when a long name is cut; a whole sentence after a dot is not. */
const MOST_EXTENSION_BYTES = 20

/** C0 and C1 controls, DEL, lone surrogates, bidirectional marks and overrides, invisible spaces, line separators, BOM. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|\p{Cs}/gu
/** What some file system or shell takes for something else; `\` and `/` never get here. */
const RESERVED = /[<>:"|?*%]/g
/** Names of devices on Windows, with any extension. */
const DEVICE = /^(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)/i

/**
 * A name from anywhere made fit for a folder and a header: its last path segment, without what cannot be seen or means
 * something to a file system, at most 200 bytes with its extension kept, no leading dot or dash, never empty. Pure, and
 * a name it has made is left as it is.
 */
export function safeFileName(raw: string): string {
  const segment = raw.slice(Math.max(raw.lastIndexOf('/'), raw.lastIndexOf('\\')) + 1)
  const seen = segment.replace(UNSEEN, '').normalize('NFC').replace(RESERVED, '_')
  const trimmed = trimEnd(seen.replace(/^[\s.-]+/u, ''))
  const named = DEVICE.test(trimmed) ? `_${trimmed}` : trimmed
  return shorten(named) || 'file'
}

/** Windows drops trailing dots and spaces, so two names would be one. */
function trimEnd(name: string): string {
  let end = name.length
  while (end > 0 && /[\s.]/u.test(name.charAt(end - 1))) end--
  return name.slice(0, end)
}

function shorten(name: string): string {
  if (utf8Bytes(name) <= MOST_BYTES) return name
  const dot = name.lastIndexOf('.')
  const extension = dot > 0 && utf8Bytes(name.slice(dot)) <= MOST_EXTENSION_BYTES ? name.slice(dot) : ''
  const stem = [...name.slice(0, name.length - extension.length)]
  let bytes = utf8Bytes(extension)
  let kept = ''
  for (const character of stem) {
    bytes += utf8Bytes(character)
    if (bytes > MOST_BYTES) break
    kept += character
  }
  return trimEnd(kept) + extension
}

function utf8Bytes(text: string): number {
  return utf8Encode(text).length
}
