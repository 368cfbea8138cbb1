import type { Clock } from '../../../core/env.ts'
import type { ConfiguredPull } from './configured.ts'
import { Connection } from './connection.ts'
import type { Fault, MqttVersion } from './dialect.ts'
import { besideGroup } from './filters.ts'
import { type Dial, dialSocket } from './link.ts'
import { VersionChoice } from './version.ts'

export interface ProbeOptions {
  readonly pull: ConfiguredPull
  /** Of the probe's own session, and of the groups that it asks for in place of ours. */
  readonly name: string
  readonly clock: Clock
  readonly dial?: Dial
}

/** What a broker answers to who asks: its word on each filter (a QoS, or from 0x80 on why not), or why there is none. */
export type ProbeAnswer = { readonly version: MqttVersion; readonly codes: ReadonlyMap<string, number> } | { readonly fault: string }

/** Connects with a session that ends with the connection, subscribes, and leaves. What it is sent meanwhile is not acknowledged, and is nobody else's. */
export async function probeBroker(o: ProbeOptions): Promise<ProbeAnswer> {
  const version = new VersionChoice(o.pull.version)
  for (let tries = 0; ; tries++) {
    const spoken = version.next
    const answer = await ask(o, spoken)
    if ('codes' in answer) return { version: spoken, codes: answer.codes }
    version.ended(answer.how)
    if (version.next === spoken || tries > 0) return { fault: answer.text }
  }
}

function ask({ pull, name, clock, dial = dialSocket }: ProbeOptions, version: MqttVersion): Promise<{ readonly codes: Map<string, number> } | Fault> {
  const { filters } = pull.topics
  return new Promise((resolve) => {
    const codes = new Map<string, number>()
    const connection: Connection = new Connection(
      { ...pull, clientId: `kymo-${name}`, version, clean: true, receiveMaximum: 1, packetBytesMax: 64 * 1024, clock, dial },
      {
        opened: () => Promise.resolve(undefined),
        accepted: () => connection.subscribe(filters.map((filter) => besideGroup(filter, name))),
        subscribed(asked, answers) {
          asked.forEach((filter, i) => codes.set(filters.find((one) => besideGroup(one, name) === filter) ?? filter, answers[i] ?? 0x80))
          if (codes.size === filters.length) connection.close()
        },
        chunkEnded: () => undefined,
        failed: (thrown) => connection.fail(thrown instanceof Error ? thrown.message : String(thrown)),
        ended: (fault) => resolve(codes.size === filters.length ? { codes } : fault),
        messages: { publish: () => undefined, oversized: () => undefined },
      },
    )
  })
}
