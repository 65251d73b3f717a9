import { aborted, onInterrupt } from '../../src/interrupt.ts'

/** A command that is asked to stop, says so, and never gets done with it. */
setInterval(() => {}, 60_000)
const signal = onInterrupt()
process.stdout.write('running\n')
await aborted(signal)
process.stdout.write('stopping\n')
