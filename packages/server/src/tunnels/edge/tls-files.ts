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
 * Hands over the files' new content soon after they changed from version `served`, for new connections; what is open goes
 * on. Files that cannot be read yet or do not fit together (between the two writes of a renewal, say) change nothing, and
 * are tried again. The returned function stops looking.
 */
export function reloadOnChange(
  serve: (certificate: Certificate) => void,
  files: TlsFiles,
  served: string,
  log: Log,
): () => void {
  let failed: string | undefined
  const look = async (): Promise<void> => {
    const version = await versionOf(files)
    if (version === served) return
    try {
      serve(await readCertificate(files))
      served = version
      log.info({ cert_file: files.certFile }, 'edge.tls_reloaded')
    } catch (error) {
      // Said once, however often it is tried.
      if (version !== failed) log.warn({ error, cert_file: files.certFile }, 'edge.tls_reload_failed')
      failed = version
    }
  }
  const timer = setInterval(() => void look(), LOOK_EVERY_MS)
  timer.unref()
  return () => clearInterval(timer)
}

/** Changes whenever either file is replaced or written. To be asked for before they are read: they may change meanwhile. */
export async function versionOf({ certFile, keyFile }: TlsFiles): Promise<string> {
  const describe = async (path: string) => {
    const { ino, size, mtimeMs } = await stat(path)
    return `${ino}:${size}:${mtimeMs}`
  }
  return Promise.all([describe(certFile), describe(keyFile)]).then(
    (versions) => versions.join(' '),
    () => 'missing',
  )
}
