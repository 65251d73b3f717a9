import { type Child, startChild } from './child.ts'
import type { AgentVerbs } from './processes/agent.ts'
import type { FleetVerbs } from './processes/fleet.ts'
import type { HerdVerbs } from './processes/herd.ts'
import type { LoadVerbs } from './processes/load.ts'
import type { RelayVerbs } from './processes/relay.ts'
import type { ServerVerbs } from './processes/server.ts'
import type { ServiceVerbs } from './processes/service.ts'

export type { LoadVerbs } from './processes/load.ts'
export type { ServiceVerbs } from './processes/service.ts'

/** Their memory is measured after a forced collection. */
const MEASURED = { nodeOptions: ['--expose-gc'] }

export const startService = (): Child<ServiceVerbs> => startChild(new URL('./processes/service.ts', import.meta.url))
export const startLoad = (): Child<LoadVerbs> => startChild(new URL('./processes/load.ts', import.meta.url))
export const startRelay = (): Child<RelayVerbs> => startChild(new URL('./processes/relay.ts', import.meta.url))
export const startFleet = (): Child<FleetVerbs> => startChild(new URL('./processes/fleet.ts', import.meta.url))
export const startHerd = (): Child<HerdVerbs> => startChild(new URL('./processes/herd.ts', import.meta.url), MEASURED)

/** `env` beside that of this process: a compile cache, say, for one that is started again and again. */
export const startServerProcess = (outputFile: string, env: Record<string, string> = {}): Child<ServerVerbs> =>
  startChild(new URL('./processes/server.ts', import.meta.url), { ...MEASURED, outputFile, env })
export const startAgentProcess = (outputFile: string, env: Record<string, string> = {}): Child<AgentVerbs> =>
  startChild(new URL('./processes/agent.ts', import.meta.url), { ...MEASURED, outputFile, env })
