import { dialAndRelay, type LinkStream, type StreamHandler } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import { unreachable } from '@cyberun/protocol'
import { type PortRules, portAllowed } from './ports.ts'

/** Literal addresses, so that no name service and no proxy setting can send us elsewhere. Some services listen on ::1 only. */
const LOOPBACK = ['127.0.0.1', '::1'] as const
const DIAL_TIMEOUT_MS = 10_000

/** The services of this machine that tunnels may reach. */
export interface Targets {
  /** Serves the streams that the server opens. */
  readonly onStream: StreamHandler
  /** From now on these rules hold; streams to ports that they no longer allow end. */
  allow(rules: PortRules): void
}

/**
 * `onTask` and `onTerminal` serve the streams of those kinds. `refused` ports are never dialled, whatever the rules say: those of our own
 * server, when it runs on this machine.
 */
export function createTargets(
  rules: PortRules,
  refused: ReadonlySet<number>,
  onTask: (stream: LinkStream) => void,
  onTerminal: (stream: LinkStream) => void,
  log: Log,
): Targets {
  const open = new Map<LinkStream, number>()

  async function relay(stream: LinkStream, port: number): Promise<void> {
    open.set(stream, port)
    try {
      await dialAndRelay(stream, { hosts: LOOPBACK, port, timeoutMs: DIAL_TIMEOUT_MS })
    } finally {
      open.delete(stream)
    }
  }

  return {
    onStream(stream) {
      const { target } = stream.init
      switch (target.kind) {
        case 'tcp':
          if (portAllowed(rules, refused, target.port)) {
            relay(stream, target.port).catch((error: unknown) =>
              log.error({ error, port: target.port }, 'target.fault'),
            )
          } else {
            log.warn(
              { port: target.port, hint: 'tunnel_ports of this agent does not allow it' },
              'target.port_not_allowed',
            )
            stream.reset('port_not_allowed')
          }
          return
        case 'control':
        case 'echo':
        case 'task':
          onTask(stream)
          return
        case 'terminal':
          onTerminal(stream)
          return
        case 'artifact':
        case 'input':
          stream.reset('unsupported')
          return
        default:
          return unreachable(target)
      }
    },
    allow(next) {
      rules = next
      for (const [stream, port] of open) if (!portAllowed(rules, refused, port)) stream.reset('port_not_allowed')
    },
  }
}
