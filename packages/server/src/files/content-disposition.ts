import { safeFileName } from '@cyberun/protocol'

/** What RFC 8187 section 3.2.1 lets stand as it is (`attr-char`), beyond what `encodeURIComponent` leaves. */
const NOT_ATTR_CHAR = /['()*]/g

/**
 * `attachment` with the file's name: quoted ASCII for old clients, and UTF-8 in the form of RFC 8187 (RFC 6266, section
 * 4.3). Whatever the name is, the field is one line.
 */
export function attachmentOf(fileName: string): string {
  const name = safeFileName(fileName)
  const plain = name.replace(/[^\x20-\x7e]/gu, '_')
  const encoded = encodeURIComponent(name).replace(
    NOT_ATTR_CHAR,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`
}
