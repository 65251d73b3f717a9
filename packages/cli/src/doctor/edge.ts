import { DialError, type DialFailure, dialLink, type Link } from '@cyberun/link'
import { parseKey } from '@cyberun/protocol'
import { formatBytes } from '../text.ts'
import { measureRate, measureRoundTrip } from './echo.ts'
import { networkSteps, type Route } from './network.ts'
import { Finding, Skipped, type Step } from './steps.ts'

const NO_KEY = new Skipped('no agent key here: set CYBERUN_AGENT_KEY, or run it beside cyberun-agent.yaml')
const NEW_KEY = 'make a new one with "cyberun keys create --kind agent" and put it into cyberun-agent.yaml'
const NOT_AN_EDGE = 'check the address: it must be the server’s edge (port 8788 by default), not its API'
const PROXY_CUTS = 'a proxy on the way does not pass WebSockets: allow the upgrade on it, or go around it with NO_PROXY'

/** How the upgrade ended: a link, or the edge's own refusal of the key, which proves that WebSockets get through. */
type Upgrade = { kind: 'link'; link: Link } | { kind: 'refused'; finding: Finding }

export interface EdgeCheck extends Disposable {
  steps: Step[]
}

/**
 * The way an agent takes to the server's edge, down to the speed of its link. Without a key what needs one is skipped.
 * The link is a probe: it makes no agent, and disturbs none. Disposing closes it.
 */
export function checkEdge(route: Route, key: string | undefined): EdgeCheck {
  let upgrade: Upgrade | undefined
  const onLink = (measure: (link: Link) => Promise<string>) => async () =>
    upgrade?.kind === 'link' ? measure(upgrade.link) : NO_KEY
  const steps: Step[] = [
    ...networkSteps(route),
    {
      layer: 'websocket',
      async run(signal) {
        upgrade = await tryUpgrade(route, key, signal)
        return 'the edge answers the upgrade'
      },
    },
    {
      layer: 'key',
      async run() {
        if (key === undefined) return NO_KEY
        if (parseKey(key) !== 'ak') throw new Finding('the agent key is mistyped, cut off or of another kind', NEW_KEY)
        if (upgrade?.kind === 'refused') throw upgrade.finding
        return `the edge takes the key ${key.slice(0, 12)}…`
      },
    },
    {
      layer: 'round_trip',
      run: (signal) => onLink(async (link) => `${(await measureRoundTrip(link, signal)).toFixed(1)} ms`)(),
    },
    {
      layer: 'throughput',
      run: (signal) => onLink(async (link) => `${formatBytes(await measureRate(link, signal))}/s there and back`)(),
    },
  ]
  return {
    steps,
    [Symbol.dispose]() {
      if (upgrade?.kind === 'link') upgrade.link.close({ code: 'done', message: 'the check is over' })
    },
  }
}

/** Throws a `Finding` when it is the WebSocket that does not get through. */
async function tryUpgrade(route: Route, key: string | undefined, signal: AbortSignal): Promise<Upgrade> {
  try {
    const link = await dialLink({
      url: route.url,
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
      hello: () => ({
        software: 'cyberun-doctor',
        fields: { role: 'probe' },
      }),
      onStream(stream) {
        stream.reset('unsupported')
        return undefined
      },
      ...(route.proxy && { proxy: route.proxy }),
      ...(route.ca !== undefined && { ca: route.ca }),
      signal,
    })
    return { kind: 'link', link }
  } catch (error) {
    if (signal.aborted) throw new Finding('the upgrade to a WebSocket is not answered', PROXY_CUTS)
    if (!(error instanceof DialError)) throw error
    return { kind: 'refused', finding: judge(error.failure) }
  }
}

/** The refusal of the key as a `Finding` to return; throws the `Finding` for all that lies before the key. */
function judge(failure: DialFailure): Finding {
  switch (failure.kind) {
    case 'http':
      if (failure.status === 401) return new Finding(failure.message, NEW_KEY)
      if (failure.status === 429 || failure.status === 503) {
        return new Finding(failure.message, 'the server limits how often it is asked: wait a minute and try again')
      }
      throw new Finding(`the upgrade to a WebSocket is answered with ${failure.status}`, NOT_AN_EDGE)
    case 'refused':
      return new Finding(failure.reason.message, NEW_KEY)
    case 'protocol':
      throw new Finding(`what answers is no Cyberun edge (${failure.message})`, NOT_AN_EDGE)
    case 'network':
    case 'tls':
      throw new Finding(`the connection ends during the upgrade (${failure.code})`, PROXY_CUTS)
    case 'proxy':
      throw new Finding(`the proxy answers ${failure.status}`, PROXY_CUTS)
  }
}
