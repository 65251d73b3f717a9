import { stat } from 'node:fs/promises'
import type { Log } from '@cyberun/link/log'
import { AgentConfigError, loadAgentConfig } from './config.ts'
import { describePortRules, type PortRules } from './ports.ts'
import type { Env } from './proxy.ts'

const LOOK_EVERY_MS = 2_000

/**
 * Reads `tunnel_ports` again whenever the settings file changes, until `signal` aborts, and applies rules that are others
 * than those before, `rules` at first. A file that no agent could be started with changes nothing and is tried again, so
 * that neither a misspelt name nor a half-written file ever widens what is allowed; the log says what is wrong with it.
 */
export function watchTunnelPorts(
  file: string,
  env: Env,
  rules: PortRules,
  apply: (rules: PortRules) => void,
  log: Log,
  signal: AbortSignal,
): void {
  let seen: string | undefined
  let unreadable: string | undefined

  async function look(): Promise<void> {
    const mark = await fileMark(file)
    if (mark === seen || signal.aborted) return
    // The first look reads it, too: it may have changed since the agent was started.
    try {
      const next = loadAgentConfig(env, file).tunnelPorts
      seen = mark
      if (describePortRules(next) === describePortRules(rules)) return
      rules = next
      apply(rules)
      log.info({ tunnel_ports: describePortRules(rules) }, 'agent.ports_changed')
    } catch (error) {
      if (!(error instanceof AgentConfigError)) throw error
      // Said once, however often it is tried.
      if (mark !== unreadable) log.error({ hint: error.message }, 'agent.ports_unchanged')
      unreadable = mark
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
