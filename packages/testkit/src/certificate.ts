import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { requireProgram } from './programs.ts'

/** Where a certificate and its key lie, and the certificate itself, PEM: it is its own authority. */
export interface Certificate {
  certFile: string
  keyFile: string
  ca: string
}

/** Makes a certificate for this machine's loopback. Needs openssl. */
export function makeLocalCertificate(directory: string): Certificate {
  const [certFile, keyFile] = [join(directory, 'local.crt'), join(directory, 'local.key')]
  const key = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const files = ['-keyout', keyFile, '-out', certFile]
  execFileSync(requireProgram('openssl'), ['req', ...key, ...names, ...files], { stdio: 'pipe' })
  return { certFile, keyFile, ca: readFileSync(certFile, 'utf8') }
}
