import { BlockList, isIP } from 'node:net'

/** What of a request tells who made it; one of `node:http` is such. */
export interface Asked {
  socket: { readonly remoteAddress?: string | undefined }
  headers: { readonly [name: string]: string | string[] | undefined }
}

export interface VisitorAddress {
  /** True for the address of a configured proxy. */
  isTrusted(address: string): boolean
  /**
   * The address of whoever made the request: the peer of the socket, or behind trusted proxies the last entry of
   * `X-Forwarded-For` that none of them is. Entries left of it were written by the caller and prove nothing.
   */
  of(request: Asked): string
}

/** `trustedProxies`: addresses and ranges (`10.0.0.0/8`), already validated by the settings. */
export function createVisitorAddress(trustedProxies: readonly string[]): VisitorAddress {
  const proxies = new BlockList()
  for (const range of trustedProxies) {
    const [address = '', bits] = range.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    if (bits === undefined) proxies.addAddress(address, family)
    else proxies.addSubnet(address, Number(bits), family)
  }
  const isTrusted = (address: string) =>
    trustedProxies.length > 0 && isIP(address) !== 0 && proxies.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
  return {
    isTrusted,
    of(request) {
      let address = plain(request.socket.remoteAddress ?? '')
      if (!isTrusted(address)) return address
      const forwarded = String(request.headers['x-forwarded-for'] ?? '').split(',')
      while (isTrusted(address)) {
        const previous = plain((forwarded.pop() ?? '').trim())
        if (isIP(previous) === 0) break
        address = previous
      }
      return address
    },
  }
}

/** An IPv4 address as such also when it came through a socket that speaks IPv6. */
function plain(address: string): string {
  return address.startsWith('::ffff:') && isIP(address.slice(7)) === 4 ? address.slice(7) : address
}
