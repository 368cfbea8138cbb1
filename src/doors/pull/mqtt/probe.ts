import type { Clock } from '../../../core/env.ts'
import type { BrokerAddress } from '../../../wire/mqtt/address.ts'
import { Connection } from './connection.ts'
import { type Dial, dialSocket, type TlsFiles } from './link.ts'

export interface ProbeOptions {
  readonly address: BrokerAddress
  readonly tls: TlsFiles
  readonly filters: readonly string[]
  readonly clientId: string
  readonly username?: string
  readonly password?: string
  readonly clock: Clock
  readonly dial?: Dial
}

/** What a broker answers to who asks: its word on each filter (a QoS, or 0x80), or why there is none. */
export type ProbeAnswer = { readonly codes: ReadonlyMap<string, number> } | { readonly fault: string }

/** Connects with a session that ends with the connection, subscribes, and leaves. What it is sent meanwhile is not acknowledged. */
export function probeBroker(o: ProbeOptions): Promise<ProbeAnswer> {
  return new Promise((resolve) => {
    const codes = new Map<string, number>()
    const username = o.username ?? o.address.username
    const password = o.password ?? o.address.password
    const connection: Connection = new Connection(
      {
        address: o.address,
        tls: o.tls,
        clientId: o.clientId,
        clean: true,
        ...(username === undefined ? {} : { username }),
        ...(password === undefined ? {} : { password }),
        keepAliveS: 30,
        packetBytesMax: 64 * 1024,
        clock: o.clock,
        dial: o.dial ?? dialSocket,
      },
      {
        opened: () => Promise.resolve(undefined),
        accepted: () => connection.subscribe(o.filters),
        subscribed(filters, answers) {
          filters.forEach((filter, i) => codes.set(filter, answers[i] ?? 0x80))
          if (codes.size === o.filters.length) connection.close()
        },
        chunkEnded: () => undefined,
        failed: (thrown) => connection.fail(thrown instanceof Error ? thrown.message : String(thrown)),
        ended: (fault) => resolve(codes.size === o.filters.length ? { codes } : { fault: fault.text }),
        messages: { publish: () => undefined, oversized: () => undefined },
      },
    )
  })
}
