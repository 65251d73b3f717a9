/**
 * What docs/http.md says to people, for the suite: everything that may differ between a visit
 * through the tunnel and one without it. The rest is compared to the byte: order, case and number of fields, their values,
 * bodies, trailers, interim answers and how a body ends.
 */

export interface FieldDifference {
  /** Lower case. */
  name: string
  /** Only fields with such a value differ. */
  value?: RegExp
  reason: string
}

/** Fields that only concern one connection (RFC 9110, section 7.6.1): each hop writes its own. */
const HOP_BY_HOP: readonly FieldDifference[] = [
  { name: 'connection', reason: 'says what its own hop does with its connection' },
  { name: 'keep-alive', reason: 'belongs to Connection: keep-alive' },
  { name: 'proxy-connection', reason: 'an old spelling of Connection' },
  { name: 'te', reason: 'names the transfer codings its own hop takes' },
  { name: 'transfer-encoding', reason: 'the suite compares the framing it announces instead' },
  { name: 'upgrade', reason: 'renewed by the edge when it lets a WebSocket through' },
]

export const REQUEST_DIFFERENCES: readonly FieldDifference[] = [
  ...HOP_BY_HOP,
  { name: 'cyberun-hop', reason: 'a request that comes back to the edge through its own tunnel is noticed by it' },
  { name: 'x-forwarded-for', reason: 'the visitor’s address, which only the edge knows; inbound ones are dropped' },
  { name: 'x-forwarded-proto', reason: 'the scheme the visitor used; inbound ones are dropped' },
  { name: 'x-forwarded-host', reason: 'the host the visitor asked for, as Host names the local target' },
  { name: 'x-forwarded-port', reason: 'the port the visitor used; inbound ones are dropped' },
  {
    name: 'x-forwarded-prefix',
    reason: 'only the edge says it, and only to a service that was started with that prefix: it holds the token',
  },
  ...['forwarded', 'x-real-ip', 'x-client-ip', 'true-client-ip'].map((name) => ({
    name,
    reason: 'services behind a proxy believe it about the visitor, so a visitor may not say it',
  })),
]

export const ANSWER_DIFFERENCES: readonly FieldDifference[] = [
  ...HOP_BY_HOP,
  { name: 'referrer-policy', reason: 'never weaker than the door allows: a path door’s URL holds its token' },
  {
    name: 'content-security-policy',
    value: /^(sandbox .*|frame-ancestors 'self')$/,
    reason:
      'pages of the path door share their origin with other tunnels, those of a host or a port their site; the service’s own policy stays beside ours',
  },
  {
    name: 'cross-origin-resource-policy',
    reason:
      'of a host or a port, only the tunnel’s own pages load scripts and pictures: the cookie that lets visitors in comes along from pages of the same site',
  },
  { name: 'strict-transport-security', reason: 'a tunnel does not decide how its host name is reached; dropped' },
  { name: 'alt-svc', reason: 'as Strict-Transport-Security' },
  {
    name: 'vary',
    value: /^Cookie$/,
    reason: 'a port door’s port had another tunnel before, whose pages a browser may still have in its cache',
  },
  { name: 'x-robots-tag', reason: 'a shared tunnel is not for search engines' },
]

/** Fields of an answer that bear the marks of their door, which the suite takes off before it compares. */
export const PREFIXED_ANSWER_FIELDS: readonly FieldDifference[] = [
  { name: 'location', reason: 'a redirect must lead back into the tunnel' },
  { name: 'content-location', reason: 'as Location' },
  { name: 'refresh', reason: 'as Location' },
  { name: 'link', reason: 'preloads and pages are fetched through the tunnel' },
  { name: 'set-cookie', reason: 'two tunnels on one host must neither overwrite nor see each other’s cookies' },
]

/** Differences that are not fields. */
export const OTHER_DIFFERENCES = [
  {
    name: 'close-delimited becomes chunked',
    reason: 'the visitor’s connection is worth keeping, and a chunked body shows a truncation that a close hides',
  },
  {
    name: 'a visitor that ends its direction of an HTTP connection has left',
    reason:
      'an end looks the same whether it still listens or not, and the service must learn within 100 ms that nobody does',
  },
  {
    name: 'request fields with an underscore in their name are dropped',
    reason: 'gateways behind us read X_A and X-A as one, so they could forge ours',
  },
  { name: 'HTTP version of the answer', reason: 'each hop names its own (RFC 9110, section 2.5)' },
  {
    name: 'borders of chunks and chunk extensions',
    reason: 'a recipient must not read meaning into them (RFC 9112, section 7.1)',
  },
] as const
