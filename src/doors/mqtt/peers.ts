import type { Clock } from '../../core/env.ts'
import { isLoopbackAddress, peerOf } from '../address.ts'
import { KeyedRate } from '../rate.ts'
import type { MqttLimits } from './limits.ts'

/** A connection as it is counted here. */
export interface PeerConnection {
  /** Others have come that wait for CONNECT to be sent as well: this one has waited for longest. */
  crowdedOut(): void
}

interface Peer {
  readonly name: string
  connections: number
  /** Of those the ones that have not sent CONNECT, the one that came first in front. */
  readonly silent: Set<PeerConnection>
}

/**
 * Connections by where they come from. Of those that have not sent CONNECT there are so many of one address, and in all; one more sends away the one that
 * has been silent for longest, so that whoever opens thousands and says nothing keeps nobody out: a client sends CONNECT at once.
 */
export class Peers {
  readonly #limits: MqttLimits
  readonly #rate: KeyedRate | undefined
  readonly #peers = new Map<string, Peer>()
  readonly #of = new Map<PeerConnection, Peer>()
  readonly #silent = new Set<PeerConnection>()

  constructor(clock: Clock, limits: MqttLimits) {
    this.#limits = limits
    const { connectsPerS: perS, connectsBurst: burst, connectAddressesMax: keysMax } = limits
    if (perS > 0) this.#rate = new KeyedRate(clock, { perS, burst, keysMax })
  }

  get size(): number {
    return this.#of.size
  }

  /** Why one more connection from this address is refused; undefined: it is not. */
  refusal(address: string): 'connections' | 'connect_rate' | undefined {
    const name = peerOf(address)
    if (this.size >= this.#limits.connectionsMax) return 'connections'
    if ((this.#peers.get(name)?.connections ?? 0) >= this.#limits.connectionsPerAddressMax) return 'connections'
    // A gateway or a load test on this machine is many clients under one address.
    if (this.#rate === undefined || isLoopbackAddress(address)) return undefined
    return this.#rate.take(name).allowed ? undefined : 'connect_rate'
  }

  enter(connection: PeerConnection, address: string): void {
    const name = peerOf(address)
    let peer = this.#peers.get(name)
    if (peer === undefined) {
      peer = { name, connections: 0, silent: new Set() }
      this.#peers.set(name, peer)
    }
    peer.connections++
    peer.silent.add(connection)
    this.#silent.add(connection)
    this.#of.set(connection, peer)
    this.#crowd(peer.silent, this.#limits.silentPerAddressMax)
    this.#crowd(this.#silent, this.#limits.silentMax)
  }

  /** CONNECT came, and the client was let in. */
  connected(connection: PeerConnection): void {
    this.#silent.delete(connection)
    this.#of.get(connection)?.silent.delete(connection)
  }

  left(connection: PeerConnection): void {
    const peer = this.#of.get(connection)
    if (peer === undefined) return
    this.connected(connection)
    this.#of.delete(connection)
    if (--peer.connections === 0) this.#peers.delete(peer.name)
  }

  #crowd(silent: Set<PeerConnection>, max: number): void {
    if (silent.size <= max) return
    const [first] = silent
    if (first === undefined) return
    this.connected(first)
    first.crowdedOut()
  }
}
