import type { Readable } from 'node:stream'

/** A line without an end is cut here, in characters; the task's log cuts shorter still. */
const MOST_CHARACTERS = 16 * 1024
/** After so many bytes at once a program's output rests for a moment, so that a flood never keeps the agent busy. */
const REST_AFTER_BYTES = 256 * 1024
const REST_MS = 10

/**
 * Tells each line of a program's output: invalid UTF-8 replaced, without its end, of a line that was overwritten (`\r`)
 * only what was left standing. `onRedraw` hears the overwritten texts too: progress bars.
 */
export function readLines(stream: Readable, onLine: (line: string) => void, onRedraw: (text: string) => void): void {
  const decoder = new TextDecoder('utf-8')
  let rest = ''
  let isCut = false
  let bytes = 0

  function take(text: string): void {
    let from = 0
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', from)) {
      keep(text.slice(from, end))
      tell()
      from = end + 1
    }
    keep(text.slice(from))
  }

  function keep(text: string): void {
    if (isCut) return
    rest += text
    const redrawn = rest.lastIndexOf('\r', rest.length - 2)
    if (redrawn !== -1 && rest.length > 0) {
      onRedraw(rest.slice(rest.lastIndexOf('\r', redrawn - 1) + 1, redrawn))
      rest = rest.slice(redrawn + 1)
    }
    if (rest.length <= MOST_CHARACTERS) return
    rest = `${rest.slice(0, MOST_CHARACTERS)}…`
    isCut = true
  }

  function tell(): void {
    const line = rest.endsWith('\r') ? rest.slice(0, -1) : rest
    rest = ''
    isCut = false
    onLine(line)
  }

  stream.on('data', (chunk: Buffer) => {
    take(decoder.decode(chunk, { stream: true }))
    bytes += chunk.length
    if (bytes < REST_AFTER_BYTES) return
    bytes = 0
    stream.pause()
    setTimeout(() => stream.resume(), REST_MS)
  })
  stream.on('end', () => {
    take(decoder.decode())
    if (rest !== '') tell()
  })
  // A pipe that breaks ends with its process, which is what is looked at.
  stream.on('error', () => {})
}
