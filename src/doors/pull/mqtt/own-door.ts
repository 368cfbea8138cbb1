import { lookup } from 'node:dns/promises'
import os from 'node:os'
import { KymoError } from '../../../core/errors.ts'
import { addressText, type BrokerAddress } from '../../../wire/mqtt/address.ts'

/** Where an MQTT door of ours listens. */
export interface OwnDoor {
  readonly host: string
  readonly port: number
}

const everywhere = new Set(['0.0.0.0', '::', '[::]'])

/** IPv4 in an IPv6 coat is IPv4. */
function bare(address: string): string {
  return address.replace(/^\[(.*)\]$/, '$1').replace(/^::ffff:(?=\d+\.)/i, '')
}

function localAddresses(): Set<string> {
  const addresses = Object.values(os.networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => bare(address)))
  return new Set(['127.0.0.1', '::1', ...addresses])
}

async function resolved(host: string): Promise<readonly string[]> {
  try {
    return (await lookup(bare(host), { all: true })).map(({ address }) => bare(address))
  } catch {
    // A name that nobody knows at the moment is not ours for certain; the connection is looked at again.
    return []
  }
}

/** Whether a connection to `peer` ends at one of our doors. */
export async function isOwnDoor(peer: { readonly address: string; readonly port: number }, doors: readonly OwnDoor[]): Promise<boolean> {
  const address = bare(peer.address)
  for (const door of doors) {
    if (door.port !== peer.port) continue
    const local = localAddresses()
    const bound = everywhere.has(door.host) ? local : new Set(await resolved(door.host))
    if (bound.has(address) || (everywhere.has(address) && [...bound].some((b) => local.has(b)))) return true
  }
  return false
}

/** Throws config_invalid when the broker is one of our doors: what it sends would come back to it without end. */
export async function refuseOwnDoor(address: BrokerAddress, doors: readonly OwnDoor[]): Promise<void> {
  for (const found of await resolved(address.host)) {
    if (await isOwnDoor({ address: found, port: address.port }, doors)) throw ownDoor(address)
  }
}

export function ownDoor(address: BrokerAddress): KymoError {
  const detail =
    `mqtt.pull.url (MQTT_BROKER) is ${addressText(address)}, which is Kymo's own MQTT door: it would take what it has taken. Leave it empty when devices ` +
    'publish to Kymo itself; when another broker listens there, give Kymo another port: --mqtt-port 1884'
  return new KymoError('config_invalid', { detail, errors: [{ pointer: 'mqtt.pull.url', detail: "is Kymo's own MQTT door" }] })
}
