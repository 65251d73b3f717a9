import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Programs that tests use, of the system or of the zoo (`packages/testkit/zoo`), and what brings each. */
const REMEDY = {
  psql: 'apt-get install postgresql-client',
  pgbench: 'apt-get install postgresql-15',
  postgres: 'apt-get install postgresql-15',
  ssh: 'apt-get install openssh-client',
  sshd: 'apt-get install openssh-server',
  scp: 'apt-get install openssh-client',
  rsync: 'apt-get install rsync',
  chromium: 'apt-get install chromium',
  haproxy: 'apt-get install haproxy',
  wrk: 'apt-get install wrk',
  curl: 'apt-get install curl',
  openssl: 'apt-get install openssl',
  python3: 'apt-get install python3',
  jupyter: 'apt-get install jupyter-notebook',
  cadaver: 'apt-get install cadaver',
  websockify: 'apt-get install websockify novnc',
  Xtigervnc: 'apt-get install tigervnc-standalone-server',
  xterm: 'apt-get install xterm',
  zbarimg: 'apt-get install zbar-tools',
  'python3.11-doc': 'apt-get install python3.11-doc',
  'jupyter-lab': 'bash packages/testkit/zoo/install',
  gradio: 'bash packages/testkit/zoo/install',
  wsgidav: 'bash packages/testkit/zoo/install',
  'comfyui-frontend': 'bash packages/testkit/zoo/install',
  'code-server': 'bash packages/testkit/zoo/install',
  'node-red': 'bash packages/testkit/zoo/install',
  vite: 'bash packages/testkit/zoo/install',
} as const

export type SystemProgram = keyof typeof REMEDY

/** Places outside PATH where Debian puts server programs. */
const EXTRA_DIRS = ['/usr/sbin', '/usr/lib/postgresql/15/bin']

const ZOO = fileURLToPath(new URL('../../../.zoo', import.meta.url))
/** What is found at a place of its own; `gradio` is the Python that has it, others may be a script or a folder. */
const PLACES: Partial<Record<SystemProgram, string>> = {
  'python3.11-doc': '/usr/share/doc/python3.11/html',
  'jupyter-lab': join(ZOO, 'python/bin/jupyter-lab'),
  gradio: join(ZOO, 'python/bin/python'),
  wsgidav: join(ZOO, 'python/bin/wsgidav'),
  'comfyui-frontend': join(ZOO, 'comfyui-frontend'),
  'code-server': join(ZOO, 'node/node_modules/code-server/out/node/entry.js'),
  'node-red': join(ZOO, 'node/node_modules/node-red/red.js'),
  vite: join(ZOO, 'node/node_modules/vite/bin/vite.js'),
}

/** The absolute path of a program, or undefined when it is not installed. */
export function findProgram(name: SystemProgram): string | undefined {
  const place = PLACES[name]
  if (place !== undefined) return existsSync(place) ? place : undefined
  for (const dir of EXTRA_DIRS) if (existsSync(`${dir}/${name}`)) return `${dir}/${name}`
  const found = spawnSync('sh', ['-c', 'command -v "$0"', name], { encoding: 'utf8' })
  return found.status === 0 ? found.stdout.trim() : undefined
}

/** The path of a program that the test has asked for with `lacksPrograms`. */
export function requireProgram(name: SystemProgram): string {
  const path = findProgram(name)
  if (path === undefined) throw new Error(`missing ${name} (${REMEDY[name]})`)
  return path
}

/**
 * For `describe.skipIf(lacksPrograms(…))`: true, after one line that says what to install, when a program is missing.
 * Where skips are forbidden (`CYBERUN_TEST_SKIPS=forbidden`) a missing program is an error.
 */
export function lacksPrograms(...names: SystemProgram[]): boolean {
  const missing = names.filter((name) => findProgram(name) === undefined)
  if (missing.length === 0) return false
  const line = `missing ${missing.map((name) => `${name} (${REMEDY[name]})`).join(', ')}`
  if (process.env['CYBERUN_TEST_SKIPS'] === 'forbidden') throw new Error(`skips are forbidden here: ${line}`)
  console.warn(`skipped: ${line}`)
  return true
}
