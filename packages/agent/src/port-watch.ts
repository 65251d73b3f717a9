import { stat } from 'node:fs/promises'
import type { Log } from '@cyberun/link/log'
import { AgentConfigError, reloadTunnelPorts } from './config.ts'
import { describePortRules, type PortRules } from './ports.ts'
import type { Env } from './proxy.ts'

const LOOK_EVERY_MS = 2_000

/**
 * Reads `tunnel_ports` again whenever the settings file changes, until `signal` aborts. A file that cannot be read
 * changes nothing: what was allowed stays, and the log says why.
 */
export function watchTunnelPorts(
  file: string,
  env: Env,
  apply: (rules: PortRules) => void,
  log: Log,
  signal: AbortSignal,
): void {
  let seen: string | undefined

  async function look(): Promise<void> {
    const mark = await fileMark(file)
    const isChanged = seen !== undefined && mark !== seen
    seen = mark
    if (!isChanged || signal.aborted) return
    try {
      const rules = reloadTunnelPorts(env, file)
      apply(rules)
      log.info({ tunnel_ports: describePortRules(rules) }, 'agent.ports_changed')
    } catch (error) {
      if (!(error instanceof AgentConfigError)) throw error
      log.error({ hint: error.message }, 'agent.ports_unchanged')
    }
  }

  let looking = Promise.resolve()
  const lookSafely = (): void => {
    looking = looking.then(look).catch((error: unknown) => log.error({ error }, 'agent.ports_unchanged'))
  }
  lookSafely()
  const timer = setInterval(lookSafely, LOOK_EVERY_MS)
  signal.addEventListener('abort', () => clearInterval(timer), { once: true })
}

/** Changes whenever the file does; editors replace files, so the inode counts too. */
async function fileMark(file: string): Promise<string> {
  try {
    const { mtimeMs, size, ino } = await stat(file)
    return `${mtimeMs} ${size} ${ino}`
  } catch {
    // Gone for a moment, as while an editor replaces it.
    return 'absent'
  }
}
