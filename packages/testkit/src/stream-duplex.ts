import { Duplex } from 'node:stream'
import { type LinkStream, StreamResetError } from '@cyberun/protocol'

/**
 * A stream as a Node Duplex, for users that move little: what arrives is copied. A reset destroys it with
 * `StreamResetError`; destroying it resets the stream. Half-open is allowed.
 */
export function streamToDuplex(stream: LinkStream): Duplex {
  let releases: (() => void)[] = []
  let isEnded = false
  const duplex = new Duplex({
    allowHalfOpen: true,
    read() {
      const consumed = releases
      releases = []
      for (const release of consumed) release()
    },
    write(bytes: Buffer, _encoding, done) {
      stream.write(bytes, done)
    },
    final(done) {
      stream.end()
      done()
    },
    destroy(error, done) {
      if (!isEnded || error) stream.reset('cancelled')
      for (const release of releases.splice(0)) release()
      done(error)
    },
  })
  stream.listen({
    onData(chunk) {
      const release = chunk.hold()
      if (duplex.push(Buffer.from(chunk.bytes))) release()
      else releases.push(release)
    },
    onEnd() {
      isEnded = true
      duplex.push(null)
    },
    onReset(code) {
      duplex.destroy(new StreamResetError(code))
    },
    onDrain() {},
  })
  return duplex
}
