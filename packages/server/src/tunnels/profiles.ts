import type { HostPolicy, TunnelProfile } from '@cyberun/api'
import type { AgentPath } from '../routing/routing.ts'
import { firstOf } from './http/fields.ts'
import { askService, type ServiceAnswer } from './service-question.ts'

/** How a kind of service wants to be spoken to, and what it is known by. */
export interface Profile {
  /**
   * `rewrite`: Jupyter refuses a Host that is not local, ComfyUI a local Host with a foreign Origin, so all of Host,
   * Origin and Referer are made local. `preserve`: code-server compares Origin with X-Forwarded-Host, so none is.
   */
  hostPolicy: HostPolicy
  signs?: Signs
}

/** What a kind of service answers. Its usual port is only a reason to ask; it proves nothing. */
interface Signs {
  port: number
  /** Whether its answer to the first question alone tells. */
  proves?: (root: ServiceAnswer) => boolean
  /** Whether the first answer is a reason to ask the second question. */
  suggests: (root: ServiceAnswer) => boolean
  /** The second question, as a path below the service's base, and the answer that tells. */
  asks: string
  confirms: (answer: ServiceAnswer) => boolean
}

export const PROFILES: Readonly<Record<TunnelProfile, Profile>> = {
  vite: {
    hostPolicy: 'rewrite',
    signs: {
      port: 5173,
      proves: ({ text }) => text.includes('/@vite/client'),
      suggests: () => false,
      asks: '/@vite/client',
      confirms: ({ status, text }) => status === 200 && text.includes('[vite]'),
    },
  },
  gradio: {
    hostPolicy: 'rewrite',
    signs: {
      port: 7860,
      proves: ({ text }) => text.includes('window.gradio_config'),
      suggests: ({ text }) => /gradio/i.test(text),
      asks: '/config',
      confirms: ({ status, text }) => status === 200 && text.includes('"components"') && /"version":\s*"/.test(text),
    },
  },
  comfyui: {
    hostPolicy: 'rewrite',
    signs: {
      port: 8188,
      suggests: ({ text }) => /ComfyUI/i.test(titleOf(text)),
      asks: '/system_stats',
      confirms: ({ status, text }) => status === 200 && text.includes('"comfyui_version"'),
    },
  },
  jupyter: {
    hostPolicy: 'rewrite',
    signs: {
      port: 8888,
      suggests: ({ fields, text }) =>
        (firstOf(fields, 'server') ?? '').startsWith('TornadoServer/') || text.includes('jupyter-config-data'),
      asks: '/api',
      confirms: ({ status, text }) => status === 200 && /^\s*\{\s*"version":\s*"[^"]*"\s*\}\s*$/.test(text),
    },
  },
  'code-server': {
    hostPolicy: 'preserve',
    signs: {
      port: 8080,
      suggests: ({ fields, text }) =>
        (firstOf(fields, 'location') ?? '').startsWith('./') || /code-server|vscode/i.test(text),
      asks: '/healthz',
      confirms: ({ status, text }) => status === 200 && text.includes('"lastHeartbeat"'),
    },
  },
  generic: { hostPolicy: 'rewrite' },
}

/** How long all questions may take together. Who opens a tunnel waits for this. */
const DETECTION_MS = 2_000

/**
 * Finds out what kind of service listens on a port of the agent's machine, with two small requests at most. `base` is
 * what its paths start with, without a slash at its end. Never throws and takes no longer than `patienceMs`: whatever
 * does not answer as one of the known is `generic`.
 */
export async function detectProfile(
  path: AgentPath,
  port: number,
  base: string,
  signal: AbortSignal,
  patienceMs = DETECTION_MS,
): Promise<TunnelProfile> {
  const patience = AbortSignal.any([signal, AbortSignal.timeout(patienceMs)])
  const root = await askService(path, port, `${base}/`, patience)
  if (!root) return 'generic'
  const proven = KNOWN.find(({ signs }) => signs.proves?.(root))
  if (proven) return proven.name
  const likely = KNOWN.find(({ signs }) => signs.suggests(root)) ?? KNOWN.find(({ signs }) => signs.port === port)
  if (!likely) return 'generic'
  const answer = await askService(path, port, (base || baseOf(root)) + likely.signs.asks, patience)
  return answer && likely.signs.confirms(answer) ? likely.name : 'generic'
}

/** The kinds that can be told from others, in the order in which they are tried. */
const KNOWN = Object.entries(PROFILES).flatMap(([name, { signs }]) =>
  signs ? [{ name: name as TunnelProfile, signs }] : [],
)

/** The base path of a service that sends its visitors from `/` to a page below it, as Jupyter does. */
function baseOf(root: ServiceAnswer): string {
  const location = firstOf(root.fields, 'location') ?? ''
  return /^(\/[\w./-]*)\/(?:lab|tree|login)(?:[/?]|$)/.exec(location)?.[1] ?? ''
}

function titleOf(html: string): string {
  return /<title[^>]{0,200}>([^<]{0,200})/i.exec(html)?.[1] ?? ''
}
