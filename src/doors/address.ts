/**
 * What counts as one peer: an IPv4 address, or the first 64 bits of an IPv6 address (a host has all the rest to choose from).
 */
export function peerOf(address: string): string {
  if (!address.includes(':')) return address
  const mapped = address.lastIndexOf(':ffff:')
  if (mapped >= 0 && address.includes('.')) return address.slice(mapped + 6)
  const groups = address.split('%')[0]!.split('::')[0]!.split(':')
  return `${groups.slice(0, 4).join(':')}::`
}

/** A peer on this machine. */
export function isLoopbackAddress(address: string): boolean {
  return address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.')
}
