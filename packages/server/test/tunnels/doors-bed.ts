import type { Arrival, DoorSettings, Routed, TunnelIndex } from '../../src/tunnels/doors/door-search.ts'
import { findDoor } from '../../src/tunnels/doors/doors.ts'
import { checkOrigin } from '../../src/tunnels/doors/origin-check.ts'
import { type Fields, valuesOf } from '../../src/tunnels/http/fields.ts'
import type { OwnAnswer } from '../../src/tunnels/http/pages.ts'
import { Refusal } from '../../src/tunnels/http/refusal.ts'
import { type CheckedRequest, checkRequest } from '../../src/tunnels/http/request-checks.ts'
import type { OpenTunnel, TunnelFacts } from '../../src/tunnels/open-tunnel.ts'
import { newTunnel } from './bed.ts'

/** Tunnels of each kind, and what the doors decide about requests to them. */

export const EDGE = 'edge.example.org'
export const PORT = 9_000

/** A tunnel called by one letter. */
function tunnelOf(letter: string, changes: Partial<TunnelFacts> = {}): OpenTunnel {
  return newTunnel({
    ...{ sessionId: letter, token: letter.repeat(43), visitSecret: `secret-${letter}`, label: letter.repeat(32) },
    ...changes,
  })
}

export const a = tunnelOf('a')
export const b = tunnelOf('b')
export const withPort = tunnelOf('c', { edgePort: PORT })
export const based = tunnelOf('d', { pathMode: 'keep', edgePort: PORT + 1 })
export const tcp = tunnelOf('e', { protocol: 'tcp' })
const ALL = [a, b, withPort, based, tcp]

const tunnels: TunnelIndex = {
  byToken: (token) => ALL.find(({ facts }) => facts.token === token),
  byLabel: (label) => ALL.find(({ facts }) => facts.label === label),
  byEdgePort: (port) => ALL.find(({ facts }) => facts.edgePort === port),
}

export interface Asked {
  path?: string
  host?: string
  method?: string
  fields?: Fields
  edgePort?: number
  settings?: Partial<DoorSettings>
}

export const SETTINGS: DoorSettings = {
  ...{ tunnelDomain: 'localhost', publicHost: EDGE, pathPages: 'sandbox', listenerScheme: 'http' },
  openPorts: new Set([PORT, PORT + 1]),
}

function requestOf({ path = '/', host = EDGE, method = 'GET', fields = [] }: Asked): CheckedRequest | Refusal {
  return checkRequest({ method, target: path, httpVersion: '1.1', fields: ['Host', host, ...fields] }, 0)
}

function arrivalOf({ host = EDGE, edgePort }: Asked): Arrival {
  return { scheme: 'http', host, localAddress: '10.0.0.1', edgePort }
}

/** What becomes of a request, and of the same one after the check of Origin. */
export function ask(asked: Asked): Routed | OwnAnswer | Refusal {
  const request = requestOf(asked)
  if (request instanceof Refusal) return request
  const found = findDoor(request, arrivalOf(asked), tunnels, { ...SETTINGS, ...asked.settings })
  return 'tunnel' in found ? (checkOrigin(request, found.door) ?? found) : found
}

/** In a few words: the tunnel and path, the redirect, or the status. */
export function verdict(asked: Asked): string {
  const found = ask(asked)
  if ('tunnel' in found) return `${found.tunnel.facts.sessionId} ${found.door.kind} ${found.path}`
  if (found instanceof Refusal) return String(found.status)
  const [location] = valuesOf(found.fields, 'location')
  return location === undefined ? String(found.status) : `${found.status} ${location}`
}
