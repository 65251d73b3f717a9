import { type Child, startChild } from './child.ts'
import type { LoadVerbs } from './processes/load.ts'
import type { ServiceVerbs } from './processes/service.ts'

export type { LoadVerbs } from './processes/load.ts'
export type { ServiceVerbs } from './processes/service.ts'

export const startService = (): Child<ServiceVerbs> => startChild(new URL('./processes/service.ts', import.meta.url))
export const startLoad = (): Child<LoadVerbs> => startChild(new URL('./processes/load.ts', import.meta.url))
