#!/usr/bin/env node
// Plain JavaScript that Node 18 can parse: it may be started by whatever Node the system has, and hands over to Node 24.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import module from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chooseNode } from './node-version.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const choice = chooseNode({ version: process.versions.node, pinned: findPinnedNode() })

if (choice.kind === 'here') await runHere()
else if (choice.kind === 'other') runOn(choice.node)
else refuse(choice.message)

async function runHere() {
  // Halves the start-up time. Kept beside the code and not in the shared temporary directory, where another user could
  // put a prepared cache.
  module.enableCompileCache(join(here, '../../../node_modules/.cache/cyberun'))
  const { main } = await import('../src/main.ts')
  process.exitCode = await main(process)
}

/** The Node that `npm ci` put beside the packages, or undefined. */
function findPinnedNode() {
  const name = `node-${process.platform}-${process.arch}`
  for (let dir = here; dirname(dir) !== dir; dir = dirname(dir)) {
    const node = join(dir, 'node_modules', name, 'bin/node')
    if (existsSync(node)) return node
  }
  return undefined
}

/** @param {string} node */
function runOn(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit' })
  child.on('error', (error) => refuse(`cannot start ${node}: ${error.message}`))
  child.on('exit', (code, signal) => {
    if (signal === null) process.exitCode = code ?? 1
    else {
      process.removeAllListeners(signal)
      process.kill(process.pid, signal)
    }
  })
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  // A terminal sends Ctrl-C to both processes itself; sent twice it would mean "stop at once".
  process.on('SIGINT', () => process.stdin.isTTY || child.kill('SIGINT'))
}

/** @param {string} message */
function refuse(message) {
  process.stderr.write(`error: ${message}\n`)
  process.exitCode = 1
}
