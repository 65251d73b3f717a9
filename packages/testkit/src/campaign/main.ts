import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runCampaign } from './campaign.ts'

/** `npm run campaign -- --tasks 100000 --faults 1000 --seed 7 --engine postgres`. Exit code 1 when a promise was broken. */
const { values } = parseArgs({
  options: {
    tasks: { type: 'string', default: '3000' },
    faults: { type: 'string', default: '150' },
    seed: { type: 'string', default: '1' },
    engine: { type: 'string', default: 'sqlite' },
    'pause-ms': { type: 'string', default: '700' },
  },
})

const engine = values.engine === 'postgres' ? 'postgres' : 'sqlite'
const directory = mkdtempSync(join(tmpdir(), 'cyberun-campaign-'))
const say = (line: string): void => void process.stdout.write(`${line}\n`)
const whole = (name: 'tasks' | 'faults' | 'seed' | 'pause-ms'): number => {
  const number = Number(values[name])
  if (!Number.isInteger(number) || number < 0) throw new Error(`--${name}: expected a whole number`)
  return number
}

say(`journals are in ${directory}`)
const report = await runCampaign({
  ...{ engine, directory, say },
  ...{ tasks: whole('tasks'), faults: whole('faults'), seed: whole('seed'), pauseMs: whole('pause-ms') },
})
say(JSON.stringify(report, null, 2))
// What is still alive are links that the campaign itself cut, and their timers.
process.exit(report.violations.length > 0 ? 1 : 0)
