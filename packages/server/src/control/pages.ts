import { createHash } from 'node:crypto'
import { html, raw } from 'hono/html'

/** Text that is HTML already, or becomes it. */
export type Markup = ReturnType<typeof html>

/** One style for every page people read here: nothing is fetched, so they work without a network. */
const STYLE = `
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --dim: #777; --accent: #2563c9 }
@media (prefers-color-scheme: dark) { :root { --accent: #7cacff; --dim: #9a9a9a } }
* { box-sizing: border-box }
body { margin: 0; font: 15px/1.55 system-ui, sans-serif }
a { color: var(--accent); text-decoration: none } a:hover { text-decoration: underline }
code, pre { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace }
code { background: var(--soft); border-radius: 4px; padding: 1px 4px }
pre { background: var(--soft); border-radius: 6px; padding: 10px 12px; overflow-x: auto; margin: 8px 0 }
h1 { font-size: 26px; margin: 0 0 12px } h2 { margin: 44px 0 0; text-transform: capitalize } h4 { margin: 14px 0 4px }
main { max-width: 880px; padding: 32px 40px 80px }
.page { margin: 12vh auto 0; max-width: 560px; padding: 0 24px }
.with-list { display: grid; grid-template-columns: 290px 1fr }
nav { border-right: 1px solid var(--line); padding: 24px 20px; height: 100vh; overflow-y: auto; position: sticky; top: 0; font-size: 13px }
nav b { display: block; margin: 16px 0 4px; text-transform: capitalize }
nav a { display: flex; gap: 8px; color: inherit; padding: 1px 0; overflow-wrap: anywhere }
article { border-top: 1px solid var(--line); margin-top: 20px; padding-top: 16px }
h3 { font: 600 15px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; margin: 0; overflow-wrap: anywhere }
.verb { flex: none; width: 52px; font-weight: 600; font-size: 11px; line-height: 1.9; color: var(--accent) }
h3 .verb { font-size: 13px; margin-right: 8px }
.dim { color: var(--dim) }
table { border-collapse: collapse; width: 100% }
td { border-top: 1px solid var(--line); padding: 5px 12px 5px 0; vertical-align: top }
td:first-child { width: 34% }
@media (max-width: 760px) { .with-list { display: block } nav { position: static; height: auto; border: 0 } main { padding: 16px } }
`
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64')

/** A whole page. Its policy allows the one style and nothing else. */
export async function page(title: string, body: Markup): Promise<Response> {
  const text = await html`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title><style>${raw(STYLE)}</style></head>
<body>${body}</body>
</html>
`
  return new Response(String(text), {
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'`,
    },
  })
}

/** What stands at `/`: for somebody who opened the address to see what it is. */
export function frontPage(): Promise<Response> {
  return page(
    'Cyberun',
    html`<div class="page"><h1>Cyberun</h1>
<p>This is the API of a Cyberun server. Read <a href="/api/v1/docs">what it can do</a>,
or take the <a href="/api/v1/openapi.json">OpenAPI document</a>.</p></div>`,
  )
}

/** Where a device sends its user, until there is a console with a form for it. */
export function pairPage(): Promise<Response> {
  return page(
    'Cyberun: pair a device',
    html`<div class="page"><h1>Pair a device</h1>
<p>The device shows a code such as <code>BCDF-GHJK</code>. Confirm it where you are signed in:</p>
<pre>cyberun approve BCDF-GHJK</pre>
<p>or with the <a href="/api/v1/docs#post_desktop_pair_confirm">call</a> behind that command:</p>
<pre>POST /api/v1/desktop/pair/confirm
Authorization: Bearer &lt;access token&gt;
X-Team-ID: &lt;team&gt;
Content-Type: application/json

{"user_code": "BCDF-GHJK", "device_name": "my laptop"}</pre>
<p class="dim">A code is good for five minutes. Confirm only a code that a device of yours shows right now.</p></div>`,
  )
}
