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

/**
 * Who looks at an answer: a program, a person who asked for a page, or one who sent something, such as a form, and must
 * not be led to think that it arrived.
 */
export type Audience = 'program' | 'reader' | 'sender'

/** Browsers say that they take HTML, API clients do not. */
export function audienceOf({ method, fields }: { method: string; fields: Fields }): Audience {
  if (!firstOf(fields, 'accept')?.includes('text/html')) return 'program'
  return method === 'GET' || method === 'HEAD' ? 'reader' : 'sender'
}

/** A refusal as JSON, as the API's errors look, or as a page for a person. */
export function refusalAnswer(refusal: Refusal, audience: Audience): OwnAnswer {
  const { status, code, message } = refusal
  const fields = [...ISOLATED_FIELDS, ...refusal.fields]
  if (audience === 'program') {
    const body = JSON.stringify({ error_message: message, error_code: code })
    return own(status, 'application/json', `${body}\n`, fields)
  }
  const retryAfter = firstOf([...refusal.fields], 'retry-after')
  const html = page({
    title: `${status}`,
    html: paragraph(sentence(message)) + nextStep(retryAfter, audience),
    ...reload(retryAfter, audience),
  })
  return own(status, 'text/html; charset=utf-8', html, fields)
}

/** A plain page of ours. */
export function plainPage(status: number, title: string, text: string): OwnAnswer {
  return own(status, 'text/html; charset=utf-8', page({ title, html: paragraph(text) }), ISOLATED_FIELDS)
}

/** An answer that only sends the visitor elsewhere: windows and pictures of other origins may pass through it. */
export function redirectAnswer(status: 302 | 307, location: string, fields: readonly string[] = []): OwnAnswer {
  return own(status, 'text/plain; charset=utf-8', '', ['Location', location, ...fields])
}

/** What a person reads before the first page of a tunnel at `host`. `next` leads on. */
export function noticePage(next: string, host: string, fields: readonly string[]): OwnAnswer {
  const html = `<p>Somebody opened a tunnel to a program on a machine of theirs and shared its address. What comes next is
that program's, not this server's: nobody here has looked at it.</p>
<p>Go on if you know who sent you. Type no password here that is for another site.</p>
<p><a class="next" href="${escapeHtml(next)}" rel="nofollow">Continue to ${escapeHtml(host)}</a></p>
<p class="small">You see this once for each tunnel. Programs that ask with the header <code>Cyberun-Skip-Notice: 1</code> do not.</p>`
  return own(200, 'text/html; charset=utf-8', page({ title: 'This is somebody else’s machine', html }), [
    ...ISOLATED_FIELDS,
    ...fields,
  ])
}

function own(status: number, contentType: string, text: string, fields: readonly string[]): OwnAnswer {
  const body = Buffer.from(text)
  const length = ['Content-Type', contentType, 'Content-Length', String(body.length)]
  return { status, fields: [...OWN_FIELDS, ...length, ...fields], body }
}

/** What the person can do: a page that is asked for again by itself, or a form that only they may send again. */
function nextStep(retryAfterSeconds: string | undefined, audience: Audience): string {
  if (audience === 'sender') return paragraph('What you sent did not arrive. Go back and send it again.')
  return retryAfterSeconds === undefined ? '' : paragraph('This page tries again by itself.')
}

function reload(retryAfterSeconds: string | undefined, audience: Audience): { reloadSeconds?: string } {
  return retryAfterSeconds === undefined || audience === 'sender' ? {} : { reloadSeconds: retryAfterSeconds }
}

function page({ title, html, reloadSeconds }: { title: string; html: string; reloadSeconds?: string }): string {
  const refresh =
    reloadSeconds === undefined ? '' : `<meta http-equiv="refresh" content="${escapeHtml(reloadSeconds)}">`
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">${refresh}
<title>Cyberun tunnel</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.25rem}.next{display:inline-block;padding:.5rem 1rem;border-radius:.375rem;background:#1a56db;color:#fff;
text-decoration:none}.small{font-size:.875rem;color:#595959}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}.small{color:#a3a3a3}}</style>
<h1>${escapeHtml(title)}</h1>${html}</html>
`
}

/** Messages are written to stand within a line of a log. */
function sentence(message: string): string {
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}.`
}

function paragraph(text: string): string {
  return `<p>${escapeHtml(text)}</p>`
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
