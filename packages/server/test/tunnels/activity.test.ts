import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ACTIVITY_LIMITS, Activity, type SeenRequest } from '../../src/tunnels/activity.ts'

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

type Recorded = (activity: Activity, until: number) => void

/** Does something every `periodMs` from `from` on, give or take what a network adds. */
function every(periodMs: number, act: (now: number) => void, until: number, from = 0): void {
  const late = jitter(Math.min(periodMs / 20, 80))
  for (let at = from + periodMs; at < until; at += periodMs) act(at + late())
}

const ask = (activity: Activity, now: number, seen: Partial<SeenRequest> & { path: string }, status = 200): void => {
  const use = activity.request({ method: 'GET', by: 'page', ...seen }, now)
  use.answered(status, true, now + 20)
  use.ended(now + 20)
}

/** What a browser asks for when somebody opens a page. */
function openPage(activity: Activity, paths: readonly string[]): void {
  ask(activity, 0, { path: '/', by: 'click' })
  for (const path of paths) ask(activity, 500, { path })
}

/** Tabs that somebody left open: what each does by itself, as seen at the edge. */
const FORGOTTEN: Record<string, Recorded> = {
  'ComfyUI: the server pushes its status and pictures of a queue, the page fetches them'(activity, until) {
    openPage(activity, ['/ws?clientId=a', '/api/queue', '/object_info'])
    const socket = activity.socket('websocket', 500)
    socket.fromVisitor(160, 600)
    every(5 * SECOND, (now) => socket.fromService(180, now), until)
    every(90 * SECOND, (now) => ask(activity, now, { path: `/api/view?filename=a_${now}.png` }), until)
    every(90 * SECOND, (now) => ask(activity, now, { path: '/api/history?max_items=64' }), until)
  },
  'JupyterLab: polls kernels, terminals and sessions with a time in the query, answers pings'(activity, until) {
    openPage(activity, ['/lab/api/settings', '/api/kernels?1', '/api/terminals?1'])
    const kernel = activity.socket('websocket', 500)
    const late = jitter(40)
    every(10 * SECOND, (now) => ask(activity, now, { path: `/api/kernels?${now}` }), until)
    every(10 * SECOND, (now) => ask(activity, now, { path: `/api/terminals?${now}` }), until, 3_000)
    every(10 * SECOND, (now) => ask(activity, now, { path: `/api/sessions?${now}` }), until, 5_000)
    every(30 * SECOND, (now) => kernel.fromService(2, now), until)
    every(30 * SECOND, (now) => kernel.fromVisitor(6, now + 60 + late()), until)
  },
  'Gradio: a heartbeat stream that is opened again each minute'(activity, until) {
    openPage(activity, ['/config', '/gradio_api/heartbeat/k3j4h5'])
    every(MINUTE, (now) => ask(activity, now, { path: '/gradio_api/heartbeat/k3j4h5' }), until)
  },
  'Gradio: a timer that posts'(activity, until) {
    openPage(activity, ['/config'])
    every(2 * SECOND, (now) => ask(activity, now, { path: '/gradio_api/queue/join', method: 'POST' }), until)
  },
  'code-server: keep-alives on two sockets, acknowledgements of what the server says'(activity, until) {
    openPage(activity, ['/stable-1?reconnectionToken=a', '/stable-1?reconnectionToken=b'])
    const acknowledges = jitter(60)
    const talk = jitter(20 * SECOND)
    for (const from of [0, 2_000]) {
      const socket = activity.socket('websocket', 500)
      every(5 * SECOND, (now) => socket.fromVisitor(19, now), until, from)
      for (let now = 31_000; now < until; now += 40 * SECOND + talk()) {
        socket.fromService(240, now)
        socket.fromVisitor(19, now + 100 + acknowledges())
      }
    }
  },
  'Vite: a silent HMR socket that pings'(activity, until) {
    openPage(activity, ['/@vite/client', '/src/main.ts'])
    const socket = activity.socket('websocket', 500)
    every(30 * SECOND, (now) => socket.fromVisitor(21, now), until)
  },
  'noVNC: a clock on the screen, each picture asked for when the last one came'(activity, until) {
    openPage(activity, ['/websockify'])
    const socket = activity.socket('websocket', 500)
    const late = jitter(50)
    for (let now = SECOND; now < until; now += SECOND) {
      socket.fromService(4_000, now)
      socket.fromVisitor(16, now + 70 + late())
    }
  },
  'Socket.IO over polling: reads with a nonce, a pong by POST'(activity, until) {
    openPage(activity, ['/socket.io/?t=a'])
    every(25 * SECOND, (now) => ask(activity, now, { path: `/socket.io/?t=${now.toString(36)}` }), until)
    every(25 * SECOND, (now) => ask(activity, now, { path: '/socket.io/', method: 'POST' }), until, 300)
  },
  'a dashboard: posts queries each 5 s, a heartbeat whose counter grows, figures of changing size'(activity, until) {
    openPage(activity, ['/d/abc'])
    const socket = activity.socket('websocket', 500)
    const size = jitter(30)
    every(5 * SECOND, (now) => ask(activity, now, { path: '/api/ds/query', method: 'POST' }), until)
    every(30 * SECOND, (now) => socket.fromVisitor(40 + String(Math.round(now / 30_000)).length, now), until)
    every(45 * SECOND, (now) => socket.fromVisitor(Math.round(300 + size()), now), until, 11_000)
  },
  'a page that loads itself again, and one that fails at everything it posts'(activity, until) {
    ask(activity, 0, { path: '/status', by: 'click' })
    every(10 * SECOND, (now) => ask(activity, now, { path: '/status', by: 'navigation' }), until)
    const when = jitter(9 * SECOND)
    for (let now = 5_000; now < until; now += 20 * SECOND + when()) {
      ask(activity, now, { path: '/save', method: 'POST' }, 502)
    }
  },
  'a stream of events, a camera and a live list of segments'(activity, until) {
    openPage(activity, ['/events', '/camera.mjpg', '/live/1.m3u8'])
    const stream = activity.request({ method: 'GET', path: '/events', by: 'page' }, 600)
    stream.answered(200, false, 700)
    every(SECOND, (now) => stream.downloaded(500_000, now), until)
    every(4 * SECOND, (now) => ask(activity, now, { path: `/live/seg${Math.round(now / 4_000)}.ts` }), until)
    every(SECOND, (now) => ask(activity, now, { path: '/snapshot.jpg' }), until)
  },
  'a laptop that sleeps and goes on'(activity, until) {
    openPage(activity, ['/api/kernels'])
    const socket = activity.socket('websocket', 500)
    every(5 * SECOND, (now) => socket.fromVisitor(19, now), until / 2)
    every(5 * SECOND, (now) => socket.fromVisitor(19, now), until, until / 2 + 17 * MINUTE)
  },
  'a monitor that connects by TCP each 10 s, and a script that reads'(activity, until) {
    every(10 * SECOND, (now) => void activity.socket('tcp', now), until)
    every(10 * SECOND, (now) => ask(activity, now, { path: '/health', by: 'client' }), until)
  },
}

describe('a tab that was forgotten', () => {
  test.each(Object.entries(FORGOTTEN))('%s', (_name, recorded) => {
    const activity = new Activity(0)
    recorded(activity, 8 * HOUR)
    // The rows of a page that was just opened are not known as such yet.
    const settled = _name.startsWith('a laptop') ? 4 * HOUR + 30 * MINUTE : 10 * MINUTE
    expect(activity.lastUsedAt(8 * HOUR)).toBeLessThan(settled)
  })
})

/** People and programs at work, who must not lose the tunnel: none of them may be idle for ten minutes. */
const AT_WORK: Record<string, Recorded> = {
  'somebody types into a terminal in the browser, which echoes'(activity, until) {
    const socket = activity.socket('websocket', 0)
    type(until, (now) => {
      socket.fromVisitor(19, now)
      socket.fromService(30, now + 8)
    })
  },
  'ssh in use beside its keep-alive'(activity, until) {
    const socket = activity.socket('tcp', 0)
    every(15 * SECOND, (now) => socket.fromVisitor(60, now), until)
    type(until, (now) => {
      socket.fromVisitor(36, now)
      socket.fromService(44, now + 20)
    })
  },
  'scp copies from the machine: only window updates go there'(activity, until) {
    const socket = activity.socket('tcp', 0)
    every(100, (now) => socket.fromService(200_000, now), until)
    every(SECOND, (now) => socket.fromVisitor(60, now), until)
  },
  'an upload of one hour, as one request'(activity, until) {
    const use = activity.request({ method: 'PUT', path: '/models/a.bin', by: 'page' }, 0)
    every(300, (now) => use.uploaded(64_000, now), until)
  },
  'a download of one hour, in ranges of one path'(activity, until) {
    for (let from = 0; from < until; from += 5 * MINUTE) {
      const use = activity.request({ method: 'GET', path: '/models/a.bin', by: 'client' }, from)
      use.answered(206, true, from + 30)
      every(200, (now) => use.downloaded(64_000, now), from + 5 * MINUTE, from)
      use.ended(from + 5 * MINUTE)
    }
  },
  'somebody queues pictures in ComfyUI, now and then'(activity, until) {
    const pause = jitter(3 * MINUTE)
    for (let now = 0; now < until; now += 4 * MINUTE + pause())
      ask(activity, now, { path: '/api/prompt', method: 'POST' })
  },
  'somebody reads documentation, page by page'(activity, until) {
    for (let now = 0; now < until; now += 5 * MINUTE) ask(activity, now, { path: `/page-${now}.html`, by: 'click' })
  },
  'a script that posts without a pause'(activity, until) {
    every(2 * SECOND, (now) => ask(activity, now, { path: '/predict', method: 'POST', by: 'client' }), until)
  },
  'one request that takes an hour to be answered'(activity) {
    activity.request({ method: 'POST', path: '/train', by: 'page' }, 0)
  },
  'cells run in a notebook'(activity, until) {
    const socket = activity.socket('websocket', 0)
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
      const activity = new Activity(0)
      recorded(activity, until)
      expect(until - activity.lastUsedAt(until)).toBeLessThan(10 * MINUTE)
    }
  })
})

test('work that failed does not count, unless it took long', () => {
  const activity = new Activity(0)
  ask(activity, HOUR, { path: '/a', method: 'POST' }, 500)
  expect(activity.lastUsedAt(2 * HOUR)).toBe(0)
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
