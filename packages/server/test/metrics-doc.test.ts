import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import { expect, test } from 'vitest'
import { parseConfig } from '../src/config.ts'
import { startServer } from '../src/main.ts'

test('docs/metrics.md names every metric of ours with its type, and no other', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cyberun-metrics-'))
  const anyPort = { port: 0 }
  const config = parseConfig({ data: { dir }, control: anyPort, edge: anyPort, metrics: anyPort })
  const server = await startServer(config, { version: '0.1.0', log: createLog({ level: 'silent', format: 'json' }) })
  try {
    const text = await (await fetch(`${server.metricsUrl}/metrics`)).text()
    const served = [...text.matchAll(/^# TYPE (cyberun_\w+) (\w+)$/gm)].map(([, name, type]) => `${name} ${type}`)
    const page = await readFile(join(import.meta.dirname, '../../../docs/metrics.md'), 'utf8')
    const named = [...page.matchAll(/^\| *`(cyberun_\w+)` *\| *(\w+) *\|/gm)].map(([, name, type]) => `${name} ${type}`)
    expect(named.sort()).toEqual(served.sort())
    expect(served.length).toBeGreaterThan(5)
  } finally {
    await server.stop(AbortSignal.abort())
    await rm(dir, { recursive: true })
  }
})
