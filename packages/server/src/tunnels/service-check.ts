import { ApiError, type HostPolicy, type OpenTunnelBody, type TunnelProfile } from '@cyberun/api'
import type { AgentPath } from '../routing/routing.ts'
import { probeTarget } from './probe.ts'
import { detectProfile, PROFILES } from './profiles.ts'

/** What is known of a service when a tunnel to it opens. */
export interface CheckedService {
  profile: TunnelProfile
  hostPolicy: HostPolicy
  /** Sentences for whoever opens the tunnel. */
  warnings: string[]
}

/**
 * Asks whether something listens, and what kind of service it is unless the request says so. `prefix`: what the
 * service's paths start with when it was started with the tunnel's prefix as its base path. Such a service can only be
 * started once the tunnel is open, so there nothing listening is no error. Throws as `probeTarget` does.
 */
export async function checkService(
  path: AgentPath,
  request: OpenTunnelBody,
  prefix: string,
  signal: AbortSignal,
): Promise<CheckedService> {
  const { target_port: port, path_mode, host_policy } = request
  const warnings: string[] = []
  let listens = true
  try {
    await probeTarget(path, port, signal)
  } catch (error) {
    if (path_mode !== 'keep' || !(error instanceof ApiError) || error.code !== 'target_refused') throw error
    listens = false
    warnings.push(`Nothing listens on port ${port} yet: start the service with ${prefix}/ as its base path.`)
  }
  const asks = listens && request.tunnel_protocol === 'http'
  const base = path_mode === 'keep' ? prefix : ''
  const profile = request.profile ?? (asks ? await detectProfile(path, port, base, signal) : 'generic')
  return { profile, hostPolicy: host_policy ?? PROFILES[profile].hostPolicy, warnings }
}
