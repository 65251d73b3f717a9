/** An address or a name as it stands in a URL and in `Host`: IPv6 in brackets (RFC 3986, section 3.2.2). */
export function urlHost(address: string): string {
  return address.includes(':') ? `[${address}]` : address
}
