import { ApiError } from '@cyberun/api'
import { createLog } from '@cyberun/link/log'
import { createLocalBus } from '../../src/bus.ts'
import { type Control, type ControlOptions, startControl } from '../../src/control/control.ts'
import type { Identity } from '../../src/identity/identity.ts'
import { createVisitorAddress } from '../../src/visitor-address.ts'

/** A method that no test expected to be called. */
const unexpected = (name: string) => () => {
  throw new Error(`${name} was called`)
}

/** A part of which no test expected anything to be called. */
function double<T extends object>(part: string): T {
  return new Proxy({} as T, { get: (_, name) => unexpected(`${part}.${String(name)}`) })
}

/** An identity that has only what a test gives it, and lets one user in with the token `good`. */
export function identityDouble(methods: Partial<Identity> = {}): Identity {
  const double: Partial<Identity> = {
    authenticate: async (bearer) => {
      if (bearer !== 'good') throw new ApiError('unauthenticated', 'Sign in again.')
      return { kind: 'user', userId: USER_ID, familyId: 'family' }
    },
    roleIn: async () => 'owner',
    jwks: () => ({ keys: [] }),
    ...methods,
  }
  return new Proxy(double, { get: (target, name) => Reflect.get(target, name) ?? unexpected(String(name)) }) as Identity
}

export const USER_ID = '0198f000-0000-7000-8000-000000000001'
export const TEAM_ID = '0198f000-0000-7000-8000-000000000002'

export interface TestControl extends Control {
  /** Log lines so far. */
  lines: string[]
  [Symbol.asyncDispose](): Promise<void>
}

/** A control listener on a free port, with doubles for whatever `parts` does not give. */
export async function controlWith(parts: Partial<ControlOptions> = {}): Promise<TestControl> {
  const lines: string[] = []
  let ids = 0
  const control = await startControl({
    identity: identityDouble(),
    agents: { list: () => [], get: () => undefined },
    tunnels: double('tunnels'),
    inspectors: double('inspectors'),
    workflows: double('workflows'),
    tasks: double('tasks'),
    files: {
      presignInput: async () => ({ fileKey: 'key', uploadUrl: 'http://127.0.0.1/files/key', uploadHeaders: {} }),
      handleRequest: () => false,
    },
    bus: createLocalBus(),
    metrics: { called() {} },
    terminals: { takesUpgrade: () => false, handleUpgrade() {}, page: () => undefined },
    readiness: async () => undefined,
    visitorAddress: createVisitorAddress([]),
    host: '127.0.0.1',
    port: 0,
    version: '0.1.0',
    newRequestId: () => `made-here-${++ids}`,
    now: () => 0,
    log: createLog({ level: 'info', format: 'json', write: (line) => void lines.push(line) }),
    ...parts,
  })
  return { ...control, lines, [Symbol.asyncDispose]: () => control.stop(AbortSignal.abort()) }
}

/** An agent that has nothing to tell. */
export const AGENT = {
  agent_id: 'gpu',
  agent_status: 'idle' as const,
  agent_labels: [],
  last_heartbeat: '2026-01-01T00:00:00.000Z',
  agent_version: '0.1.0',
  tool: null,
  tool_version: null,
  comfyui_version: null,
  gpu_capacity: 1,
  running_count: 0,
  running_tasks: [],
  offers_terminal: false,
  current_task_id: null,
  platform_arch: 'linux/amd64',
  sync_phase: null,
  sync_detail: null,
  sync_percent: null,
  connected_at: '2026-01-01T00:00:00.000Z',
  tasks_completed: 0,
  system_stats: null,
  gateway_id: 'gw-1',
  round_trip_ms: null,
}
