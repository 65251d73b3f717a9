import { type Fields, firstOf } from './fields.ts'
import type { Refusal } from './refusal.ts'

/** What the edge says in its own name: refusals, and the small pages a person meets. None of it needs a script. */

/** On everything of ours: it runs nothing, is framed by nobody, kept nowhere and tells no other site where we were. */
const OWN_FIELDS: readonly string[] = [
  'Cache-Control',
  'no-store',
  'Content-Security-Policy',
  "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
  'Referrer-Policy',
  'no-referrer',
  'X-Content-Type-Options',
  'nosniff',
  'X-Robots-Tag',
  'noindex',
]

/** On what a page can come of: no other origin's page keeps a window on it, or loads it as a picture or a script. */
const ISOLATED_FIELDS: readonly string[] = [
  'Cross-Origin-Opener-Policy',
  'same-origin',
  'Cross-Origin-Resource-Policy',
  'same-origin',
]

export interface OwnAnswer {
  status: number
  fields: Fields
  body: Buffer
}

/** A refusal as JSON, as the API's errors look, or as a page for a person. */
export function refusalAnswer(refusal: Refusal, forPerson: boolean): OwnAnswer {
  const { status, code, message } = refusal
  const fields = [...ISOLATED_FIELDS, ...refusal.fields]
  if (!forPerson) {
    const body = JSON.stringify({ error_message: message, error_code: code })
    return own(status, 'application/json', `${body}\n`, fields)
  }
  const retryAfter = firstOf([...refusal.fields], 'retry-after')
  return own(status, 'text/html; charset=utf-8', page(`${status}`, message, retryAfter), fields)
}

/** A plain page of ours. */
export function plainPage(status: number, title: string, text: string): OwnAnswer {
  return own(status, 'text/html; charset=utf-8', page(title, text, undefined), ISOLATED_FIELDS)
}

/** An answer that only sends the visitor elsewhere: windows and pictures of other origins may pass through it. */
export function redirectAnswer(status: 302 | 307, location: string, fields: readonly string[] = []): OwnAnswer {
  return own(status, 'text/plain; charset=utf-8', '', ['Location', location, ...fields])
}

/** Whether a person looks at the answer: browsers say that they take HTML, API clients do not. */
export function isForPerson(fields: Fields): boolean {
  return firstOf(fields, 'accept')?.includes('text/html') ?? false
}

function own(status: number, contentType: string, text: string, fields: readonly string[]): OwnAnswer {
  const body = Buffer.from(text)
  const length = ['Content-Type', contentType, 'Content-Length', String(body.length)]
  return { status, fields: [...OWN_FIELDS, ...length, ...fields], body }
}

function page(title: string, text: string, retryAfterSeconds: string | undefined): string {
  const refresh =
    retryAfterSeconds === undefined ? '' : `<meta http-equiv="refresh" content="${escapeHtml(retryAfterSeconds)}">`
  const again = retryAfterSeconds === undefined ? '' : '<p>This page tries again by itself.</p>'
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">${refresh}
<title>Cyberun tunnel</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.25rem}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}</style>
<h1>${escapeHtml(title)}</h1><p>${escapeHtml(text)}</p>${again}</html>
`
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
