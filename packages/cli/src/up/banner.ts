import pc from 'picocolors'
import { printable } from '../text.ts'

/** What `cyberun up` tells once everything runs. */
export interface Announcement {
  control_url: string
  docs_url: string
  edge_url: string
  /** Only at the first start: the password is not kept by the server. */
  first_user?: { email_address: string; user_password: string }
  /** Null when this machine's agent cannot run; a warning has said why. */
  agent: { agent_id: string; agent_status: string } | null
  try_next: readonly string[]
  data_dir: string
}

/** Three commands that show what it does, for the agent that is there; each with a comment that a shell ignores. */
export function tryNext(agentId: string | undefined): string[] {
  const agent = agentId === undefined ? '<agent>' : printable(agentId)
  return [
    'npx cyberun run demo-fractal -p width=1024  # a run: progress, and a picture in this folder',
    `npx cyberun tunnel open ${agent} 9000  # a URL for a service on port 9000, such as: python3 -m http.server 9000`,
    `npx cyberun forward ${agent} 22 --local 2222  # a local port, here for: ssh -p 2222 127.0.0.1`,
  ]
}

/** Plain `name: value` lines, for logs and pipes. */
export function plainBanner(about: Announcement): string {
  return rows(about)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('')
}

/** The same for a person at a terminal. */
export function terminalBanner(about: Announcement): string {
  const lines = rows(about).map(([name, value]) => `  ${pc.dim(name.padEnd(10))}${emphasize(name, value)}`)
  return `\n  ${pc.bold(pc.green('Cyberun is running.'))} Ctrl-C stops it; what it keeps is in ${about.data_dir}\n\n${lines.join('\n')}\n\n`
}

type Row = readonly [name: string, value: string]
const row = (name: string, value: string): Row => [name, value]

function rows(about: Announcement): Row[] {
  const user = about.first_user
  return [
    row('api', about.control_url),
    row('docs', about.docs_url),
    row('edge', about.edge_url),
    ...(user
      ? ([
          ['e-mail', user.email_address],
          ['password', `${user.user_password} (shown once)`],
        ] as [string, string][])
      : []),
    ['agent', about.agent ? `${printable(about.agent.agent_id)} ${about.agent.agent_status}` : 'none'],
    ...about.try_next.map((command): [string, string] => ['try', command]),
  ]
}

function emphasize(name: string, value: string): string {
  const [command = '', comment] = value.split('  # ')
  return name === 'try' && comment !== undefined ? `${pc.cyan(command)}  ${pc.dim(`# ${comment}`)}` : value
}
