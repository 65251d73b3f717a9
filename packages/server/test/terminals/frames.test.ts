import { encodeShellFrame, encodeViewerFrame, type ShellFrame, type ViewerFrame } from '@cyberun/protocol'
import { expect, test } from 'vitest'

/** The codec as a browser has it, which is no TypeScript. */
const page = (await import(new URL('../../src/terminals/page/frames.js', import.meta.url).href)) as Record<
  string,
  (...given: unknown[]) => unknown
>
const bytes = new Uint8Array(Buffer.from('héllo\r'))

test.each<[ViewerFrame, string, unknown[]]>([
  [{ type: 'input', position: 2 ** 40 + 3, bytes }, 'inputFrame', [2 ** 40 + 3, bytes]],
  [{ type: 'report', bytes }, 'reportFrame', [bytes]],
  [{ type: 'resize', cols: 300, rows: 50 }, 'resizeFrame', [{ cols: 300, rows: 50 }]],
  [{ type: 'taken', position: 65_536 }, 'takenFrame', [65_536]],
  [{ type: 'hang_up' }, 'hangUpFrame', []],
  [{ type: 'ping', token: 4_000_000_000 }, 'pingFrame', [4_000_000_000]],
])('the page writes %j as everybody does', (frame, name, given) => {
  expect(Buffer.from(page[name]?.(...given) as Uint8Array).toString('hex')).toBe(
    Buffer.from(encodeViewerFrame(frame)).toString('hex'),
  )
})

const attached = {
  shell: 's',
  position: 9,
  answer_from: 9,
  input: 3,
  is_reset: true,
  prefix: '\x1b[m',
  cols: 80,
  rows: 24,
}

test.each<[ShellFrame, object?]>([
  [
    { type: 'attached', attached },
    { type: 'attached', ...attached },
  ],
  [{ type: 'output', position: 2 ** 40 + 3, bytes }],
  [{ type: 'state', cols: 80, rows: 24, viewers: 2 }],
  [{ type: 'received', position: 3 }],
  [{ type: 'exited', code: 0, signal: null }],
  [{ type: 'refused', reason: 'too_many', message: 'enough' }],
  [{ type: 'pong', token: 4_000_000_000 }],
])('the page reads %j', (frame, read = frame) => {
  expect(page['readFrame']?.(Uint8Array.from(encodeShellFrame(frame)).buffer)).toEqual(read)
})
