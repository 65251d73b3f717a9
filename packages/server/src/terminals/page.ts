import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

/**
 * The terminal's page and all it loads: our files as they are, and xterm's own from its packages. No script of its text runs,
 * nothing comes from elsewhere, and no other page may frame it. Styles may stand in it, because xterm makes them as it goes.
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "connect-src 'self'",
  'img-src data:',
  "frame-ancestors 'none'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ')

const SCRIPT = 'text/javascript; charset=utf-8'
const STYLE = 'text/css; charset=utf-8'
const own = (name: string): string => fileURLToPath(new URL(`./page/${name}`, import.meta.url))
const ofPackage = (name: string): string => createRequire(import.meta.url).resolve(name)

/** By what follows `/terminal/`. Nothing else is served. */
const FILES: Readonly<Record<string, { path(): string; type: string }>> = {
  '': { path: () => own('terminal.html'), type: 'text/html; charset=utf-8' },
  'terminal.css': { path: () => own('terminal.css'), type: STYLE },
  'terminal.js': { path: () => own('terminal.js'), type: SCRIPT },
  'shell-view.js': { path: () => own('shell-view.js'), type: SCRIPT },
  'shell-connection.js': { path: () => own('shell-connection.js'), type: SCRIPT },
  'hostile-output.js': { path: () => own('hostile-output.js'), type: SCRIPT },
  'frames.js': { path: () => own('frames.js'), type: SCRIPT },
  'xterm.js': { path: () => ofPackage('@xterm/xterm/lib/xterm.mjs'), type: SCRIPT },
  'xterm.css': { path: () => ofPackage('@xterm/xterm/css/xterm.css'), type: STYLE },
  'addon-fit.js': { path: () => ofPackage('@xterm/addon-fit/lib/addon-fit.mjs'), type: SCRIPT },
}

const kept = new Map<string, Buffer>()

/** The file that a browser asks for below `/terminal/`; undefined when there is none. */
export function terminalPage(name: string): Response | undefined {
  const file = Object.hasOwn(FILES, name) ? FILES[name] : undefined
  if (!file) return undefined
  const body = kept.get(name) ?? readFileSync(file.path())
  kept.set(name, body)
  return new Response(new Uint8Array(body), {
    headers: { 'content-type': file.type, 'content-security-policy': POLICY },
  })
}
