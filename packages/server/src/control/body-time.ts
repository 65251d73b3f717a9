import type { IncomingMessage } from 'node:http'

/** Calls `refuse`, with the code that Node's own limit has, when the body of a request is not here after `ms`. */
export function limitBodyTime(
  incoming: IncomingMessage,
  ms: number,
  refuse: (error: NodeJS.ErrnoException) => void,
): void {
  const { 'content-length': length, 'transfer-encoding': encoding } = incoming.headers
  if (encoding === undefined && (length === undefined || Number(length) === 0)) return
  const timer = setTimeout(() => {
    refuse(Object.assign(new Error(`the body took longer than ${ms} ms`), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }))
  }, ms)
  const clear = () => clearTimeout(timer)
  incoming.once('end', clear).once('close', clear)
}
