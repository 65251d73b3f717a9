import { readFileSync } from 'node:fs'

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

/** The release of this agent, as its package says. */
export const AGENT_VERSION = manifest.version
/** What an agent calls itself in a handshake. */
export const AGENT_SOFTWARE = `cyberun-agent/${AGENT_VERSION}`
