import type { TunnelView } from '@cyberun/api'
import { formatAge, formatBytes, formatUntil, printable } from '../text.ts'

/** Viewers shown by name; of the others only how many there are. */
const SHOWN_VIEWERS = 8

/** How much has gone through a tunnel, as of a time (milliseconds). */
export interface Reading {
  at: number
  bytesIn: number
  bytesOut: number
}

/** What a person sees of an open tunnel while they stay: who is on it and how much goes through, then the keys. */
export function tunnelScreen(view: TunnelView, before: Reading | undefined, now: number, note: string): string[] {
  const rate = rates(before, { at: now, bytesIn: view.bytes_in, bytesOut: view.bytes_out })
  const { viewer_count, viewer_list } = view
  const people = viewer_count === 1 ? '1 viewer' : `${viewer_count} viewers`
  const shown = viewer_list.slice(0, SHOWN_VIEWERS).map((viewer) => {
    const open = viewer.open_count === 0 ? `seen ${formatAge(viewer.last_seen_at, now)}` : `${viewer.open_count} open`
    const since = formatAge(viewer.connected_at, now).replace(/ ago$/, '')
    return `  ${printable(viewer.address)}  ${browserOf(viewer.user_agent)}  for ${since}, ${open}`
  })
  const more = viewer_count - shown.length
  return [
    `${people}; ends ${formatUntil(view.expires_at, now)} unless it is used`,
    `to the service ${rate.in}, ${formatBytes(view.bytes_in)} in all; back ${rate.out}, ${formatBytes(view.bytes_out)} in all`,
    ...shown,
    ...(more > 0 ? [`  and ${more} more`] : []),
    note,
    'e extend   r revoke: new addresses   q leave it open   x end it',
  ].filter((line) => line !== '')
}

function rates(before: Reading | undefined, reading: Reading): { in: string; out: string } {
  const seconds = before ? (reading.at - before.at) / 1000 : 0
  const of = (now: number, then: number): string =>
    `${formatBytes(seconds > 0 ? Math.max(0, Math.round((now - then) / seconds)) : 0)}/s`
  return { in: of(reading.bytesIn, before?.bytesIn ?? 0), out: of(reading.bytesOut, before?.bytesOut ?? 0) }
}

/** A user agent in a word or two; what it says of itself is no proof. */
function browserOf(userAgent: string): string {
  const names = ['Edg', 'OPR', 'Firefox', 'Chrome', 'Safari']
  const found = names.flatMap((name) => new RegExp(`\\b${name}/(\\d+)`).exec(userAgent) ?? [])
  if (userAgent.startsWith('Mozilla/') && found[0] !== undefined) return printable(found[0].replace('/', ' '))
  return printable(userAgent.split(/[ (]/, 1)[0] || 'unnamed client').slice(0, 40)
}
