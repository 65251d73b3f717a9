import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe } from 'vitest'
import { type Certificate, makeLocalCertificate } from '../../src/certificate.ts'
import { doorsOf } from '../../src/doors.ts'
import { runHttpSuite } from '../../src/http-suite/index.ts'
import { type Installation, startInstallation } from '../../src/installation.ts'
import { lacksPrograms } from '../../src/programs.ts'

/** The doors as visitors from afar have them: the same suite, with TLS from files in front of the edge. */
describe.skipIf(lacksPrograms('openssl'))('TLS', () => {
  let directory: string
  let certificate: Certificate
  let installation: Installation

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'cyberun-https-'))
    certificate = makeLocalCertificate(directory)
    installation = await startInstallation(directory, {
      CYBERUN_EDGE_TLS_CERT_FILE: certificate.certFile,
      CYBERUN_EDGE_TLS_KEY_FILE: certificate.keyFile,
      // The agent dials the edge over TLS, too, and must know whom it may trust.
      NODE_EXTRA_CA_CERTS: certificate.certFile,
    })
  })
  afterAll(async () => {
    await installation[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  const { host } = doorsOf(() => installation, { tls: { ca: () => certificate.ca } })
  runHttpSuite(host, { bulkMebibytes: 64 })
})
