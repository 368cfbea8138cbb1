import { MqttPublisher } from '../mqtt-client/publisher.ts'
import { Fleet } from './fleet.ts'

export const demoPrefix = 'demo-'
const topic = 'portfolio/telemetry'
/** A device that cannot reach the server for this many messages forgets the older ones. */
const inflightMax = 100

export interface DemoFleet {
  readonly component: { readonly name: string; readonly detail: string; readonly ms: number }
  stop(): Promise<void>
}

/** The simulated devices of `start --demo`: MQTT clients like any other, through the same door, in the server's own process. */
export async function startDemo(
  url: string,
  o: { readonly devices: number; readonly interval_ms: number },
  token: string | undefined,
): Promise<DemoFleet> {
  const fromMs = performance.now()
  const publishers = Array.from(
    { length: o.devices },
    (_, i) =>
      new MqttPublisher({
        url,
        clientId: `${demoPrefix}${i + 1}`,
        inflightMax,
        ...(token === undefined ? {} : { username: 'demo', password: token }),
      }),
  )
  await Promise.all(publishers.map((publisher) => publisher.connect()))
  const fleet = new Fleet(
    {
      devices: o.devices,
      intervalMs: o.interval_ms,
      seed: 1,
      faults: [],
      faultsPerHour: 0,
      prefix: demoPrefix,
      send: (index, _, payload) => publishers[index]?.publish(topic, payload, 1) ?? false,
    },
    Date.now(),
  )
  fleet.start()
  const every = o.interval_ms === 1_000 ? '1 message/s each' : `a message every ${o.interval_ms} ms each`
  return {
    component: { name: 'simulator', detail: `${o.devices} devices, ${every}`, ms: Math.round(performance.now() - fromMs) },
    async stop() {
      fleet.stop()
      await Promise.all(publishers.map((publisher) => publisher.end(1_000)))
    },
  }
}
