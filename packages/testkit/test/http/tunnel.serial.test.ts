import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { doorsOf } from '../../src/doors.ts'
import { runClientSuite } from '../../src/http-suite/clients.ts'
import { runHttpSuite } from '../../src/http-suite/index.ts'
import { type Installation, startInstallation } from '../../src/installation.ts'
import { runRefusals } from '../../src/refusals.ts'

let directory: string
let installation: Installation

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-http-'))
  installation = await startInstallation(directory)
})
afterAll(async () => {
  await installation[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

const doors = doorsOf(() => installation)

runHttpSuite(doors.host, { bulkMebibytes: 1024 })
runHttpSuite(doors.path, { bulkMebibytes: 64 })
runRefusals(doors.host)
runRefusals(doors.path)
runClientSuite(doors.host)
runClientSuite(doors.path)
