import type { Link } from '@cyberun/link'
import type { AgentConnection } from '../../src/agents/types.ts'

/** A link that carries nothing. */
const fakeLink: Link = {
  welcome: { software: '', capabilities: [], initialWindow: 0, fields: {} },
  roundTripMs: undefined,
  stats: { bytesIn: 0, bytesOut: 0, streams: 0, queuedBytes: 0 },
  closed: new Promise(() => {}),
  goingAway: new Promise(() => {}),
  open: () => {
    throw new Error('carries nothing')
  },
  goAway() {},
  close() {},
}

/** The agent `a` of `team-1`, as it is linked; what its hello said of runs and tools is up to the test. */
export function connection(said: {
  running?: AgentConnection['record']['hello']['running_tasks']
  tools?: AgentConnection['record']['tools']
}): AgentConnection {
  return {
    ...{ teamId: 'team-1', credentialId: 'credential-1', machineKey: 'machine-1', generation: 1, dialledAt: 0 },
    ...{ link: fakeLink, isDraining: false },
    record: {
      hello: {
        ...{ agent_id: 'a', agent_version: '0.1.0', labels: ['gpu'], platform_arch: 'linux/amd64' },
        ...{ tool: null, tool_version: null, gpu_capacity: 3, tools: [], terminal: false },
        running_tasks: said.running ?? [],
      },
      ...{ connectedAt: 0, tasksCompleted: 0, lastHeartbeatAt: 0, freeSlots: undefined, inventory: undefined },
      systemStats: { comfyui_version: null, pytorch_version: null, os_type: 'linux', gpu_devices: [] },
      tools: said.tools ?? [{ type: 'demo', version: '1', state: 'ready' }],
    },
  }
}
