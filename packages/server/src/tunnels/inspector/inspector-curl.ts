import type { Fields } from '../http/fields.ts'
import type { InspectedRequest } from './inspector.ts'
import { isMasked, maskPath } from './inspector-mask.ts'

/** Fields that curl sets itself, that the edge sets, or by which the edge would take curl for a browser. */
const NOT_COPIED: ReadonlySet<string> = new Set([
  'accept-encoding',
  'connection',
  'content-length',
  'cyberun-hop',
  'expect',
  'host',
  'origin',
  'referer',
  'te',
  'trailer',
  'transfer-encoding',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-prefix',
  'x-forwarded-proto',
])

/** What curl sends unasked; a request that had none of it must not get it. */
const CURLS_OWN = ['Accept', 'User-Agent']

/**
 * A command for a POSIX shell that sends the request again through the tunnel at `tunnelUrl`, whose path ends with a
 * slash. Printable ASCII only, whatever the request held: no byte of it can end a quotation, name a file to curl, or
 * disguise itself on a terminal. Secrets are left out and said to be. Undefined where curl cannot do the same.
 */
export function asCurl(entry: InspectedRequest, tunnelUrl: string): string | undefined {
  const fields = entry.requestFields
  const { method, path } = entry.request
  if (!fields || entry.socket || path === '*' || isUpgrade(fields)) return undefined
  const shownPath = maskPath(path)
  const left: string[] = shownPath === path ? [] : ['secrets in the path']
  const words = ['curl', '--globoff', '--path-as-is']
  if (method === 'HEAD') words.push('--head')
  else if (method !== 'GET') words.push('--request', quoted(method))
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? ''
    const value = fields[i + 1] ?? ''
    const lower = name.toLowerCase()
    if (NOT_COPIED.has(lower) || lower.startsWith('sec-fetch-')) continue
    if (isMasked(name, value)) left.push(name)
    // A bare colon would tell curl to send no such field.
    else words.push('--header', quoted(value === '' ? `${name};` : `${name}: ${value}`))
  }
  // Else what a browser sent would be answered with a way to the tunnel's own host, which wants a cookie.
  words.push('--header', quoted('Sec-Fetch-Mode: cors'))
  for (const name of CURLS_OWN) if (!has(fields, name)) words.push('--header', quoted(`${name}:`))
  const { before, words: body, missing } = bodyWords(entry, fields)
  words.push(...body, quoted(tunnelUrl.replace(/\/$/, '') + shownPath))
  const notes = [left.length > 0 && `left out: ${left.join(', ')}`, missing]
  const comments = notes.filter((note) => typeof note === 'string').map((note) => `# ${note}\n`)
  return `${comments.join('')}${before}${words.join(' ')}`
}

function bodyWords(
  entry: InspectedRequest,
  fields: Fields,
): { before: string; words: string[]; missing?: string | undefined } {
  const { bytes, kept } = entry.requestBody
  if (bytes === 0) return { before: '', words: [] }
  if (!kept?.isWhole) return { before: '', words: [], missing: `the body of ${bytes} bytes was not kept whole` }
  const type = has(fields, 'Content-Type') ? [] : ['--header', quoted('Content-Type:')]
  const text = kept.bytes.toString('latin1')
  if (isPlain(text)) return { before: '', words: [...type, '--data-raw', quoted(text)] }
  // An argument cannot hold a NUL, and some shells lose bytes that are no text: printf makes them where curl reads.
  return { before: `printf ${printfFormat(text)} | `, words: [...type, '--data-binary', '@-'] }
}

/** Whether single quotes can carry it to any shell, and a terminal shows it as it is. */
function isPlain(text: string): boolean {
  return /^[\n\x20-\x7e]*$/.test(text)
}

/** One word of the shell that stands for `text`, a character a byte. */
function quoted(text: string): string {
  if (/^[0-9A-Za-z@%+=:,./_-]+$/.test(text)) return text
  if (isPlain(text)) return `'${text.replaceAll("'", "'\\''")}'`
  return `"$(printf ${printfFormat(text)})"`
}

/** The argument of printf that makes `text`: letters and digits as they are, every other byte in octal. */
function printfFormat(text: string): string {
  return `'${text.replace(/[^0-9A-Za-z]/g, (byte) => `\\${byte.charCodeAt(0).toString(8).padStart(3, '0')}`)}'`
}

function has(fields: Fields, name: string): boolean {
  const lower = name.toLowerCase()
  return fields.some((text, i) => i % 2 === 0 && text.toLowerCase() === lower)
}

function isUpgrade(fields: Fields): boolean {
  return has(fields, 'Upgrade')
}
