#!/usr/bin/env node
// Behaves like one of Nerfstudio's programs, by the name it is called by: takes the options that matter, prints what
// those print, writes what those write where those write it, and fails when what it needs is not there.
import { appendFileSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

const [, self, ...args] = process.argv
const program = basename(self)
const option = (name) => {
  const at = args.indexOf(name)
  if (at === -1) fail(`the option ${name} is required`)
  return args[at + 1]
}
function fail(why) {
  console.error(`${program}: ${why}`)
  process.exit(2)
}
function needConfig() {
  const config = option('--load-config')
  if (!existsSync(config)) fail(`${config} is not there`)
}

appendFileSync(join(dirname(self), 'calls.txt'), `${program} ${args[0]}\n`)
if (existsSync(join(dirname(self), `fail-${program}`))) {
  console.error('torch.cuda.OutOfMemoryError: CUDA out of memory.')
  process.exit(1)
}
if (existsSync(join(dirname(self), `hang-${program}`))) setInterval(() => {}, 1_000)
else {
  switch (program) {
    case 'ns-process-data': {
      const data = option('--data')
      if (args[0] === 'video' ? !statSync(data).isFile() : readdirSync(data).length === 0) fail('no data')
      mkdirSync(option('--output-dir'), { recursive: true })
      writeFileSync(join(option('--output-dir'), 'transforms.json'), '{}')
      process.stdout.write('Extracting features:  50%|#####     |\rExtracting features: 100%|##########|\n')
      console.log('\u001b[32m🎉 Done running COLMAP\u001b[0m')
      break
    }
    case 'ns-train': {
      if (!existsSync(join(option('--data'), 'transforms.json'))) fail('no transforms.json')
      const total = Number(option('--max-num-iterations'))
      console.log('Step (% Done)       Train Iter (time)    ETA (time)')
      for (const share of [0, 0.25, 0.5, 1]) {
        console.log(`${Math.round(share * total)} (${(share * 100).toFixed(2)}%)         35.5 ms             1 m, 3 s`)
      }
      const folder = join(option('--output-dir'), option('--experiment-name'), args[0], option('--timestamp'))
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, 'config.yml'), '')
      break
    }
    case 'ns-eval':
      needConfig()
      writeFileSync(option('--output-path'), '{"results":{"psnr":24.1}}')
      break
    case 'ns-export':
      needConfig()
      mkdirSync(option('--output-dir'), { recursive: true })
      writeFileSync(join(option('--output-dir'), args[0] === 'gaussian-splat' ? 'splat.ply' : 'point_cloud.ply'), 'ply')
      break
    case 'ns-render':
      needConfig()
      writeFileSync(option('--output-path'), 'film')
      break
    default:
      fail('there is no such program')
  }
}
