import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

/** Programs of the system that tests use, and the Debian package (or remedy) for each. */
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
} as const

export type SystemProgram = keyof typeof REMEDY

/** Places outside PATH where Debian puts server programs. */
const EXTRA_DIRS = ['/usr/sbin', '/usr/lib/postgresql/15/bin']

/** The absolute path of a system program, or undefined when it is not installed. */
export function findProgram(name: SystemProgram): string | undefined {
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
