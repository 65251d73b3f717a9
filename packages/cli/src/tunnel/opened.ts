import type { OpenedTunnel } from '@cyberun/api'
import { renderUnicodeCompact } from 'uqr'
import { type Context, type Output, printNote } from '../context.ts'
import { formatUntil, printable } from '../text.ts'

/** What is told of a tunnel once it is open, or has new addresses. */
export interface Announced {
  opened: OpenedTunnel
  agentId: string
  /** Address of the web terminal without its fragment; undefined when the agent offers none. */
  terminalUrl: string | undefined
}

/**
 * Tells a person of a tunnel: plain `name: value` lines; on a terminal also its address as a QR code, for a phone, and
 * the web terminal's, which holds the admin token and so goes to nothing that may be kept.
 */
export function announce(context: Context, { opened, agentId, terminalUrl }: Announced): void {
  const { stdout } = context
  const session = `${printable(agentId)} ${printable(opened.session_id)}`
  stdout.write(`${printable(opened.tunnel_url)}\n\n`)
  if (stdout.isTTY) stdout.write(qrCode(opened.tunnel_url, stdout))
  const use =
    opened.tunnel_protocol === 'tcp'
      ? 'each WebSocket opened there is one TCP connection'
      : 'open it in a browser, or use curl; whoever has this URL can use it'
  const facts: [string, string | undefined][] = [
    ['use', use],
    ['profile', opened.tunnel_protocol === 'tcp' ? undefined : opened.profile],
    ['own origin', opened.host_url],
    ['ends', `${formatUntil(opened.expires_at, context.now())} unless it is used`],
    ['session', opened.session_id],
    ['to end it', `cyberun tunnel close ${session}`],
    ['terminal', stdout.isTTY ? terminalLink(terminalUrl, agentId, opened.admin_token) : undefined],
  ]
  for (const [name, value] of facts) if (value !== undefined) stdout.write(`${name}: ${printable(value)}\n`)
  for (const warning of opened.warning_list) printNote(context, `warning: ${warning}`)
}

/** The address as a code for a camera; nothing where the terminal is too narrow for it. */
function qrCode(url: string, output: Output): string {
  // Blocks are the light modules: black on white whatever the terminal's colours, as cameras want it.
  const lines = renderUnicodeCompact(url, { border: 2 }).split('\n')
  const width = Math.max(...lines.map((line) => line.length))
  if (width > (output.columns || 80)) return ''
  return `${lines.map((line) => `\x1b[97;40m${line}\x1b[0m`).join('\n')}\n\n`
}

/** In the fragment, which browsers send to nobody and the page takes out of the address bar at once. */
function terminalLink(url: string | undefined, agentId: string, adminToken: string): string | undefined {
  if (url === undefined) return undefined
  return `${url}#agent=${encodeURIComponent(agentId)}&token=${encodeURIComponent(adminToken)}`
}
