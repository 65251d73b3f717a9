import { readFile, stat } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import type { Log } from '@cyberun/link/log'

export interface TlsFiles {
  certFile: string
  keyFile: string
}

export interface Certificate {
  cert: Buffer
  key: Buffer
}

/** How often the files are looked at: renewals replace them by rename or by symlink, which watching misses. */
const LOOK_EVERY_MS = 2_000

/** Reads certificate and key. Throws an `Error` that names the files when they cannot be read or do not fit. */
export async function readCertificate({ certFile, keyFile }: TlsFiles): Promise<Certificate> {
  try {
    const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)])
    createSecureContext({ cert, key })
    return { cert, key }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`the TLS files ${certFile} and ${keyFile} cannot be used: ${reason}`, { cause })
  }
}

/**
 * Hands over the files' new content soon after they changed, for new connections; what is open goes on. Files that do not
 * fit together (between the two writes of a renewal, say) change nothing. The returned function stops looking.
 */
export function reloadOnChange(serve: (certificate: Certificate) => void, files: TlsFiles, log: Log): () => void {
  let served = versionOf(files)
  const look = async (): Promise<void> => {
    const before = await served
    const version = await versionOf(files)
    if (version === before) return
    served = Promise.resolve(version)
    try {
      serve(await readCertificate(files))
      log.info({ cert_file: files.certFile }, 'edge.tls_reloaded')
    } catch (error) {
      log.warn({ error, cert_file: files.certFile }, 'edge.tls_reload_failed')
    }
  }
  const timer = setInterval(() => void look(), LOOK_EVERY_MS)
  timer.unref()
  return () => clearInterval(timer)
}

/** Changes whenever either file is replaced or written. */
async function versionOf({ certFile, keyFile }: TlsFiles): Promise<string> {
  const describe = async (path: string) => {
    const { ino, size, mtimeMs } = await stat(path)
    return `${ino}:${size}:${mtimeMs}`
  }
  return Promise.all([describe(certFile), describe(keyFile)]).then(
    (versions) => versions.join(' '),
    () => 'missing',
  )
}
