import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { BROWSER_DOORS } from '../../src/browser-doors.ts'
import { doorsOf, localDoorOf, portDoorOf } from '../../src/doors.ts'
import { runClientSuite } from '../../src/http-suite/clients.ts'
import { runHttpSuite } from '../../src/http-suite/index.ts'
import { type Installation, startInstallation } from '../../src/installation.ts'
import { runRefusals } from '../../src/refusals.ts'

/** The suite at the doors that not every installation has, or that are not the edge's. */
let directory: string
let local: Installation
let withPorts: Installation

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-more-doors-'))
  local = await startInstallation(join(directory, 'local'))
  withPorts = await startInstallation(join(directory, 'ports'), await BROWSER_DOORS.port.settings())
})
afterAll(async () => {
  await local[Symbol.asyncDispose]()
  await withPorts[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

const port = portDoorOf(() => withPorts)
runHttpSuite(port, { bulkMebibytes: 64 })
runHttpSuite(
  localDoorOf(() => local),
  { bulkMebibytes: 64 },
)

// The ways of a tunnel that is not opened as most are: its service knows the tunnel's address, or only its host.
const basePath = doorsOf(() => local, { wishes: { path_mode: 'keep' } })
const preserving = doorsOf(() => local, { wishes: { host_policy: 'preserve' } })
runHttpSuite(basePath.host, { bulkMebibytes: 64 })
runHttpSuite(basePath.path, { bulkMebibytes: 64 })
runHttpSuite(preserving.host, { bulkMebibytes: 64 })
runHttpSuite(preserving.path, { bulkMebibytes: 64 })
for (const door of [port, basePath.path]) {
  runRefusals(door)
  runClientSuite(door)
}
