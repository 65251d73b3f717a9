import type { Fields } from '../http/fields.ts'

/**
 * What the inspector shows instead of secrets. A secret is known by the name it goes under, or by how it begins: what
 * is neither stays readable, and bodies are not looked into at all.
 */
export const MASK = '***'

/** Fields whose whole value is a secret. `Authorization` keeps its scheme, cookies keep their names. */
const SECRET_FIELDS: ReadonlySet<string> = new Set([
  'authentication-info',
  'authorization',
  'proxy-authentication-info',
  'proxy-authorization',
])

/** Fields that hold addresses, which hold secrets in their paths and queries. */
const ADDRESS_FIELDS: ReadonlySet<string> = new Set(['content-location', 'link', 'location', 'referer', 'refresh'])

/** A name with one of these in it, cut into words or not: `X-Api-Key`, `access_token`, `X-Amz-Signature`, `sessionid`. */
const SECRET_NAME =
  /token|secret|passw|passphrase|pwd|api-?key|access-?key|private-?key|signature|credential|session|csrf|xsrf|jwt|auth(?!or(?!iz))/
/** Short names that are secrets only when they are the whole name. `code` is what OAuth sends back. */
const SECRET_SHORT_NAME: ReadonlySet<string> = new Set(['code', 'key', 'pass', 'pin', 'sid', 'sig'])
/** Names that only sound like it. */
const HARMLESS: ReadonlySet<string> = new Set(['proxy-authenticate', 'www-authenticate'])

/**
 * Secrets that say themselves what they are: our own keys, those of well-known services, and signed tokens (JWT). In a
 * URL a character before them may be anything but part of the same word.
 */
const SECRET_WORD =
  /(?<![0-9A-Za-z])(?:(?:sk|dk|ak|pk|rk)-[0-9A-Za-z_-]{16,}|sk_(?:live|test)_[0-9A-Za-z]{8,}|gh[opsur]_[0-9A-Za-z]{16,}|github_pat_[0-9A-Za-z_]{16,}|glpat-[0-9A-Za-z_-]{16,}|hf_[0-9A-Za-z]{16,}|xox[abeprs]-[0-9A-Za-z-]{8,}|A(?:KI|SI)A[0-9A-Z]{12,}|AIza[0-9A-Za-z_-]{20,}|eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]*)/g
/** The token in an address of our path door. */
const TUNNEL_TOKEN = /(\/tunnel\/)[0-9A-Za-z_-]{16,}/g

/** Fields as they may be shown: the same names in the same order. */
export function maskFields(fields: Fields): Fields {
  return fields.map((text, i) => (i % 2 === 0 ? text : maskValue((fields[i - 1] ?? '').toLowerCase(), text)))
}

/** Whether something of this field is left out when it is shown. */
export function isMasked(name: string, value: string): boolean {
  return maskValue(name.toLowerCase(), value) !== value
}

/** A path with its query as it may be shown. */
export function maskPath(path: string): string {
  const query = path.indexOf('?')
  if (query < 0) return maskWords(path)
  return `${maskWords(path.slice(0, query))}?${maskPairs(path.slice(query + 1), '&')}`
}

function maskValue(lower: string, value: string): string {
  if (lower === 'cookie') return maskPairs(value, ';', () => true)
  if (lower === 'set-cookie') return maskSetCookie(value)
  if (lower === 'authorization' || lower === 'proxy-authorization') return maskCredentials(value)
  if (SECRET_FIELDS.has(lower) || isSecretName(lower)) return value === '' ? value : MASK
  if (ADDRESS_FIELDS.has(lower)) return maskAddresses(value)
  return maskWords(value)
}

/** `Basic dXNlcjpwYXNz` says how somebody signed in and not who. */
function maskCredentials(value: string): string {
  const scheme = /^[A-Za-z][0-9A-Za-z-]{0,30}(?= )/.exec(value)?.[0]
  return scheme === undefined ? MASK : `${scheme} ${MASK}`
}

function maskSetCookie(value: string): string {
  const [pair = '', ...attributes] = value.split(';')
  return [maskPairs(pair, ';', () => true), ...attributes].join(';')
}

/** Every address in the value of a field: its path, and the query up to whatever ends an address there. */
function maskAddresses(value: string): string {
  return maskWords(value)
    .replace(/(\/\/)[^/?#@\s]+@/g, `$1${MASK}@`)
    .replace(/([?#])([^\s<>"',;#]+)/g, (_, mark: string, query: string) => mark + maskPairs(query, '&'))
}

/** The values of `name=value` pairs, those whose name is a secret's and words that are secrets under any name. */
function maskPairs(text: string, separator: string, isSecret: (name: string) => boolean = isSecretName): string {
  const parts = text.split(separator).map((part) => {
    const equals = part.indexOf('=')
    if (equals < 0) return isSecret('') ? MASK : maskWords(part)
    const name = decoded(part.slice(0, equals)).trim().toLowerCase()
    return isSecret(name) ? `${part.slice(0, equals + 1)}${MASK}` : maskWords(part)
  })
  return parts.join(separator)
}

function isSecretName(lower: string): boolean {
  const name = lower.replaceAll('_', '-')
  return !HARMLESS.has(name) && (SECRET_SHORT_NAME.has(name) || SECRET_NAME.test(name))
}

function maskWords(text: string): string {
  return text.replace(TUNNEL_TOKEN, `$1${MASK}`).replace(SECRET_WORD, MASK)
}

/** A name without its percent-encoding, by which a secret could be disguised; as it stands when it has a broken one. */
function decoded(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}
