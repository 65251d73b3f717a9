import type { SeenRequest } from '../activity.ts'
import { type Fields, firstOf } from '../http/fields.ts'
import { isBrowser } from '../http/navigation.ts'
import type { ResponseHead } from '../http/response-parser.ts'

/** What a request shows of who makes it (Fetch Metadata Request Headers, W3C). `path` is the service's. */
export function seenRequest({ method, fields }: { method: string; fields: Fields }, path: string): SeenRequest {
  return { method, path, by: whoAsks(fields) }
}

function whoAsks(fields: Fields): SeenRequest['by'] {
  const mode = firstOf(fields, 'sec-fetch-mode')
  if (mode === 'navigate') return firstOf(fields, 'sec-fetch-user') === '?1' ? 'click' : 'navigation'
  if (mode !== undefined) return 'page'
  // A browser that is old, or on a page without TLS: there it does not say what it asks for.
  if (!isBrowser(fields)) return 'client'
  return firstOf(fields, 'accept')?.includes('text/html') ? 'navigation' : 'page'
}

/** Bodies of no stated length that are news rather than a file: event streams, logs, tokens, moving pictures. */
const NEWS = /^(text|audio|video)\/|^multipart\/x-mixed-replace|^application\/([\w.-]*json|json-seq|stream\+json)/i

/** Whether an answer is something that ends, such as a file, and not news for as long as anybody listens. */
export function isDownload({ framing, fields }: ResponseHead): boolean {
  if (framing.kind === 'length') return true
  return framing.kind !== 'none' && !NEWS.test(firstOf(fields, 'content-type') ?? '')
}
