import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  ACTIVITY_LIMITS,
  Activity,
  type RequestUse,
  type SeenRequest,
  type SocketUse,
} from '../../src/tunnels/activity.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

/** Jitter as networks make it, the same in every run. */
function jitter(spread: number): () => number {
  let state = 42
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return (state / 2 ** 31 - 0.5) * 2 * spread
  }
}

/** What happens in a tab or a program, written down in any order and told in that of time. */
class Timeline {
  readonly #events: { at: number; act: (activity: Activity) => void }[] = []

  request(seen: SeenRequest, now: number): Pick<RequestUse, 'uploaded' | 'answered' | 'downloaded' | 'ended'> {
    let use: RequestUse | undefined
    this.#note(now, (activity) => {
      use = activity.request(seen, now)
    })
    return {
      uploaded: (bytes, at) => this.#note(at, () => use?.uploaded(bytes, at)),
      answered: (status, isDownload, at) => this.#note(at, () => use?.answered(status, isDownload, at)),
      downloaded: (bytes, at) => this.#note(at, () => use?.downloaded(bytes, at)),
      ended: (at) => this.#note(at, () => use?.ended(at)),
    }
  }

  socket(kind: 'websocket' | 'tcp', now: number): Pick<SocketUse, 'fromService' | 'fromVisitor'> {
    let use: SocketUse | undefined
    this.#note(now, (activity) => {
      use = activity.socket(kind, now)
    })
    return {
      fromService: (bytes, at) => this.#note(at, () => use?.fromService(bytes, at)),
      fromVisitor: (bytes, at) => this.#note(at, () => use?.fromVisitor(bytes, at)),
    }
  }

  tell(activity: Activity): void {
    for (const { act } of this.#events.toSorted((a, b) => a.at - b.at)) act(activity)
  }

  #note(at: number, act: (activity: Activity) => void): void {
    this.#events.push({ at, act })
  }
}

type Recorded = (tab: Timeline, until: number) => void

/** The activity of a tunnel that nothing but this has used. */
function activityOf(recorded: Recorded, until: number): Activity {
  const [activity, timeline] = [new Activity(0), new Timeline()]
  recorded(timeline, until)
  timeline.tell(activity)
  return activity
}

/** Does something every `periodMs` from `from` on, give or take what a network adds. */
function every(periodMs: number, act: (now: number) => void, until: number, from = 0): void {
  const late = jitter(Math.min(periodMs / 20, 80))
  for (let at = from + periodMs; at < until; at += periodMs) act(at + late())
}

const ask = (tab: Timeline, now: number, seen: Partial<SeenRequest> & { path: string }, status = 200): void => {
  const use = tab.request({ method: 'GET', by: 'page', ...seen }, now)
  use.answered(status, true, now + 20)
  use.ended(now + 20)
}

/** What a browser asks for when somebody opens a page. */
function openPage(tab: Timeline, paths: readonly string[]): void {
  ask(tab, 0, { path: '/', by: 'click' })
  for (const path of paths) ask(tab, 500, { path })
}

/** Tabs that somebody left open: what each does by itself, as seen at the edge. */
const FORGOTTEN: Record<string, Recorded> = {
  'ComfyUI: the server pushes its status and pictures of a queue, the page fetches them'(tab, until) {
    openPage(tab, ['/ws?clientId=a', '/api/queue', '/object_info'])
    const socket = tab.socket('websocket', 500)
    socket.fromVisitor(160, 600)
    every(5 * SECOND, (now) => socket.fromService(180, now), until)
    every(90 * SECOND, (now) => ask(tab, now, { path: `/api/view?filename=a_${now}.png` }), until)
    every(90 * SECOND, (now) => ask(tab, now, { path: '/api/history?max_items=64' }), until)
  },
  'JupyterLab: polls kernels, terminals and sessions with a time in the query, answers pings'(tab, until) {
    openPage(tab, ['/lab/api/settings', '/api/kernels?1', '/api/terminals?1'])
    const kernel = tab.socket('websocket', 500)
    const late = jitter(40)
    every(10 * SECOND, (now) => ask(tab, now, { path: `/api/kernels?${now}` }), until)
    every(10 * SECOND, (now) => ask(tab, now, { path: `/api/terminals?${now}` }), until, 3_000)
    every(10 * SECOND, (now) => ask(tab, now, { path: `/api/sessions?${now}` }), until, 5_000)
    every(30 * SECOND, (now) => kernel.fromService(2, now), until)
    every(30 * SECOND, (now) => kernel.fromVisitor(6, now + 60 + late()), until)
  },
  'Gradio: a heartbeat stream that is opened again each minute'(tab, until) {
    openPage(tab, ['/config', '/gradio_api/heartbeat/k3j4h5'])
    every(MINUTE, (now) => ask(tab, now, { path: '/gradio_api/heartbeat/k3j4h5' }), until)
  },
  'Gradio: a timer that posts'(tab, until) {
    openPage(tab, ['/config'])
    every(2 * SECOND, (now) => ask(tab, now, { path: '/gradio_api/queue/join', method: 'POST' }), until)
  },
  'code-server: keep-alives on two sockets, acknowledgements of what the server says'(tab, until) {
    openPage(tab, ['/stable-1?reconnectionToken=a', '/stable-1?reconnectionToken=b'])
    const acknowledges = jitter(60)
    const talk = jitter(20 * SECOND)
    for (const from of [0, 2_000]) {
      const socket = tab.socket('websocket', 500)
      every(5 * SECOND, (now) => socket.fromVisitor(19, now), until, from)
      for (let now = 31_000; now < until; now += 40 * SECOND + talk()) {
        socket.fromService(240, now)
        socket.fromVisitor(19, now + 100 + acknowledges())
      }
    }
  },
  'code-server: saves a state each 5 s in five steps, each after an answer, and acknowledges seconds later'(
    tab,
    until,
  ) {
    openPage(tab, ['/stable-1?reconnectionToken=a'])
    const socket = tab.socket('websocket', 500)
    const busy = jitter(150)
    const saves = (from: number) => {
      let now = from
      for (const bytes of [234, 237, 236, 791, 398]) {
        socket.fromVisitor(bytes, now)
        now += 20 + Math.abs(busy())
        socket.fromService(96, now)
        now += 5
      }
    }
    every(5 * SECOND, saves, until)
    every(5 * SECOND, (now) => socket.fromVisitor(126, now), until, 1_800)
    every(5 * SECOND, (now) => socket.fromVisitor(19, now), until, 3_200)
    const talk = jitter(10 * SECOND)
    for (let now = 31_000; now < until; now += 20 * SECOND + talk()) {
      socket.fromService(240, now)
      socket.fromVisitor(19, now + 1_500 + 3 * busy())
    }
  },
  'Vite: a silent HMR socket that pings'(tab, until) {
    openPage(tab, ['/@vite/client', '/src/main.ts'])
    const socket = tab.socket('websocket', 500)
    every(30 * SECOND, (now) => socket.fromVisitor(21, now), until)
  },
  'noVNC: a clock on the screen, each picture asked for when the last one came'(tab, until) {
    openPage(tab, ['/websockify'])
    const socket = tab.socket('websocket', 500)
    const late = jitter(50)
    for (let now = SECOND; now < until; now += SECOND) {
      socket.fromService(4_000, now)
      socket.fromVisitor(16, now + 70 + late())
    }
  },
  'Socket.IO over polling: reads with a nonce, a pong by POST'(tab, until) {
    openPage(tab, ['/socket.io/?t=a'])
    every(25 * SECOND, (now) => ask(tab, now, { path: `/socket.io/?t=${now.toString(36)}` }), until)
    every(25 * SECOND, (now) => ask(tab, now, { path: '/socket.io/', method: 'POST' }), until, 300)
  },
  'a dashboard: posts queries each 5 s, a heartbeat whose counter grows, figures of changing size'(tab, until) {
    openPage(tab, ['/d/abc'])
    const socket = tab.socket('websocket', 500)
    const size = jitter(30)
    every(5 * SECOND, (now) => ask(tab, now, { path: '/api/ds/query', method: 'POST' }), until)
    every(30 * SECOND, (now) => socket.fromVisitor(40 + String(Math.round(now / 30_000)).length, now), until)
    every(45 * SECOND, (now) => socket.fromVisitor(Math.round(300 + size()), now), until, 11_000)
  },
  'a page that loads itself again, and one that fails at everything it posts'(tab, until) {
    ask(tab, 0, { path: '/status', by: 'click' })
    every(10 * SECOND, (now) => ask(tab, now, { path: '/status', by: 'navigation' }), until)
    const when = jitter(9 * SECOND)
    for (let now = 5_000; now < until; now += 20 * SECOND + when()) {
      ask(tab, now, { path: '/save', method: 'POST' }, 502)
    }
  },
  'a stream of events, a camera and a live list of segments'(tab, until) {
    openPage(tab, ['/events', '/camera.mjpg', '/live/1.m3u8'])
    const stream = tab.request({ method: 'GET', path: '/events', by: 'page' }, 600)
    stream.answered(200, false, 700)
    every(SECOND, (now) => stream.downloaded(500_000, now), until)
    every(4 * SECOND, (now) => ask(tab, now, { path: `/live/seg${Math.round(now / 4_000)}.ts` }), until)
    every(SECOND, (now) => ask(tab, now, { path: '/snapshot.jpg' }), until)
  },
  'a laptop that sleeps and goes on'(tab, until) {
    openPage(tab, ['/api/kernels'])
    const socket = tab.socket('websocket', 500)
    every(5 * SECOND, (now) => socket.fromVisitor(19, now), until / 2)
    every(5 * SECOND, (now) => socket.fromVisitor(19, now), until, until / 2 + 17 * MINUTE)
  },
  'a monitor that connects by TCP each 10 s, and a script that reads'(tab, until) {
    every(10 * SECOND, (now) => void tab.socket('tcp', now), until)
    every(10 * SECOND, (now) => ask(tab, now, { path: '/health', by: 'client' }), until)
  },
}

describe('a tab that was forgotten', () => {
  test.each(Object.entries(FORGOTTEN))('%s', (_name, recorded) => {
    const activity = activityOf(recorded, 8 * HOUR)
    // The rows of a page that was just opened are not known as such yet.
    const settled = _name.startsWith('a laptop') ? 4 * HOUR + 30 * MINUTE : 10 * MINUTE
    expect(activity.lastUsedAt(8 * HOUR)).toBeLessThan(settled)
  })
})

test('a tab of code-server as it was recorded: what it does by itself counts for a minute', () => {
  const file = readFileSync(new URL('recorded/code-server.txt', import.meta.url), 'utf8')
  const lines = file.split('\n').filter((line) => /^\d/.test(line))
  const activity = new Activity(0)
  const sockets = new Map<string, SocketUse>()
  let now = 0
  for (const line of lines) {
    const [seconds = '', name = '', who, bytes = ''] = line.split(' ')
    now = Number(seconds) * SECOND
    const socket = sockets.get(name) ?? activity.socket('websocket', now)
    sockets.set(name, socket)
    if (who === 'visitor') socket.fromVisitor(Number(bytes), now)
    else socket.fromService(Number(bytes), now)
  }
  expect(sockets.size).toBe(2)
  expect(now).toBeGreaterThan(4 * MINUTE - SECOND)
  expect(activity.lastUsedAt(now)).toBeLessThan(MINUTE)
})

/** People and programs at work, who must not lose the tunnel: none of them may be idle for ten minutes. */
const AT_WORK: Record<string, Recorded> = {
  'somebody types into a terminal in the browser, which echoes'(tab, until) {
    const socket = tab.socket('websocket', 0)
    type(until, (now) => {
      socket.fromVisitor(19, now)
      socket.fromService(30, now + 8)
    })
  },
  'somebody clicks in a remote desktop, now and then, with a clock on it'(tab, until) {
    const socket = tab.socket('websocket', 0)
    const pause = jitter(3 * SECOND)
    every(SECOND, (now) => socket.fromService(4_000, now), until)
    for (let now = 0; now < until; now += 3_300 + pause()) {
      for (const press of [0, 90, 180]) socket.fromVisitor(12, now + press)
    }
  },
  'somebody works with a page that sends one message for each thing they do'(tab, until) {
    const socket = tab.socket('websocket', 0)
    const pause = jitter(20 * SECOND)
    every(10 * SECOND, (now) => socket.fromVisitor(90, now), until)
    for (let now = 0; now < until; now += 25 * SECOND + pause()) socket.fromVisitor(120, now)
  },
  'ssh in use beside its keep-alive'(tab, until) {
    const socket = tab.socket('tcp', 0)
    every(15 * SECOND, (now) => socket.fromVisitor(60, now), until)
    type(until, (now) => {
      socket.fromVisitor(36, now)
      socket.fromService(44, now + 20)
    })
  },
  'scp copies from the machine: only window updates go there'(tab, until) {
    const socket = tab.socket('tcp', 0)
    every(100, (now) => socket.fromService(200_000, now), until)
    every(SECOND, (now) => socket.fromVisitor(60, now), until)
  },
  'an upload of one hour, as one request'(tab, until) {
    const use = tab.request({ method: 'PUT', path: '/models/a.bin', by: 'page' }, 0)
    every(300, (now) => use.uploaded(64_000, now), until)
  },
  'a download of one hour, in ranges of one path'(tab, until) {
    for (let from = 0; from < until; from += 5 * MINUTE) {
      const use = tab.request({ method: 'GET', path: '/models/a.bin', by: 'client' }, from)
      use.answered(206, true, from + 30)
      every(200, (now) => use.downloaded(64_000, now), from + 5 * MINUTE, from)
      use.ended(from + 5 * MINUTE)
    }
  },
  'somebody queues pictures in ComfyUI, now and then'(tab, until) {
    const pause = jitter(3 * MINUTE)
    for (let now = 0; now < until; now += 4 * MINUTE + pause()) ask(tab, now, { path: '/api/prompt', method: 'POST' })
  },
  'somebody reads documentation, page by page'(tab, until) {
    for (let now = 0; now < until; now += 5 * MINUTE) ask(tab, now, { path: `/page-${now}.html`, by: 'click' })
  },
  'a script that posts without a pause'(tab, until) {
    every(2 * SECOND, (now) => ask(tab, now, { path: '/predict', method: 'POST', by: 'client' }), until)
  },
  'one request that takes an hour to be answered'(tab) {
    tab.request({ method: 'POST', path: '/train', by: 'page' }, 0)
  },
  'cells run in a notebook'(tab, until) {
    const socket = tab.socket('websocket', 0)
    const pause = jitter(2 * MINUTE)
    for (let now = 0; now < until; now += 3 * MINUTE + pause()) {
      socket.fromVisitor(900, now)
      socket.fromService(3_000, now + 40)
    }
  },
}

/** Keys as people press them: words, pauses, now and then some minutes of thinking. */
function type(until: number, press: (now: number) => void): void {
  const uneven = jitter(1)
  for (let now = 0; now < until; ) {
    press(now)
    const roll = Math.abs(uneven())
    now += roll > 0.98 ? 4 * MINUTE : roll > 0.8 ? 400 + 3_000 * Math.abs(uneven()) : 90 + 160 * Math.abs(uneven())
  }
}

describe('somebody at work', () => {
  test.each(Object.entries(AT_WORK))('%s', (_name, recorded) => {
    for (let until = 10 * MINUTE; until <= 70 * MINUTE; until += 5 * MINUTE) {
      const activity = activityOf(recorded, until)
      expect(until - activity.lastUsedAt(until)).toBeLessThan(10 * MINUTE)
    }
  })
})

test('work that failed does not count, unless it took long', () => {
  const failing: Recorded = (tab) => ask(tab, HOUR, { path: '/a', method: 'POST' }, 500)
  expect(activityOf(failing, 2 * HOUR).lastUsedAt(2 * HOUR)).toBe(0)
  const activity = new Activity(0)
  const long = activity.request({ method: 'POST', path: '/b', by: 'page' }, HOUR)
  expect(activity.lastUsedAt(HOUR + 40 * MINUTE)).toBe(HOUR + 40 * MINUTE)
  long.answered(504, true, HOUR + 40 * MINUTE)
  long.ended(HOUR + 40 * MINUTE)
  expect(activity.lastUsedAt(3 * HOUR)).toBe(HOUR + 40 * MINUTE)
})

test('whatever happens, the last use is in the past, and never goes back', () => {
  const steps = fc.array(
    fc.record({
      after: fc.nat(100_000),
      method: fc.constantFrom('GET', 'POST', 'OPTIONS', 'PROPFIND', 'X'),
      path: fc.string(),
      by: fc.constantFrom<SeenRequest['by']>('click', 'navigation', 'page', 'client'),
      status: fc.constantFrom(101, 200, 404, 502),
      bytes: fc.nat(2 * ACTIVITY_LIMITS.transferBytes),
    }),
  )
  fc.assert(
    fc.property(steps, (all) => {
      const activity = new Activity(0)
      let now = 0
      let before = 0
      for (const { after, method, path, by, status, bytes } of all) {
        now += after
        const use = activity.request({ method, path, by }, now)
        use.uploaded(bytes, now)
        use.answered(status, bytes % 2 === 0, now)
        use.downloaded(bytes, now)
        use.ended(now)
        use.ended(now)
        const used = activity.lastUsedAt(now)
        expect(used).toBeLessThanOrEqual(now)
        expect(used).toBeGreaterThanOrEqual(before)
        before = used
      }
    }),
  )
})
