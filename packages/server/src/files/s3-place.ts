/** Where a bucket is, from `s3://[key:secret@]host[:port]/bucket[?region=…][&tls=off]`. */
export interface S3Place {
  endpoint: string
  bucket: string
  region: string
  /** Absent: the SDK looks in its usual places (environment, profile, instance role). */
  credentials?: { accessKeyId: string; secretAccessKey: string }
}

/** Reads `objects.url`. Throws an `Error` that says what is wrong and never holds the secret. */
export function parseS3Url(text: string): S3Place {
  const url = new URL(text)
  if (url.protocol !== 's3:' || url.host === '') throw new Error('expected s3://key:secret@host:port/bucket')
  const [bucket = '', ...rest] = url.pathname.slice(1).split('/')
  if (bucket.length < 3 || rest.some((part) => part !== '')) {
    throw new Error('expected one bucket of at least three characters after the host: s3://host/bucket')
  }
  const known = ['region', 'tls']
  for (const name of url.searchParams.keys()) {
    if (!known.includes(name)) throw new Error(`there is no option ${name}; known: ${known.join(', ')}`)
  }
  const [accessKeyId, secretAccessKey] = [url.username, url.password].map(decoded)
  return {
    endpoint: `${url.searchParams.get('tls') === 'off' ? 'http' : 'https'}://${url.host}`,
    bucket,
    region: url.searchParams.get('region') ?? 'us-east-1',
    ...(accessKeyId && secretAccessKey && { credentials: { accessKeyId, secretAccessKey } }),
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Error('key and secret must be percent-encoded: a % in them is written %25')
  }
}
