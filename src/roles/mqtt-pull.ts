import type { Config } from '../core/config.ts'
import type { Env } from '../core/env.ts'
import type { IngestGate } from '../core/gate.ts'
import type { Metrics } from '../core/metrics.ts'
import type { MetaStore } from '../core/ports.ts'
import type { SystemStatus } from '../core/services.ts'
import type { MqttPull } from '../doors/pull/mqtt/door.ts'
import type { OwnDoor } from '../doors/pull/mqtt/own-door.ts'

/** An outside broker whose settings were found good, not yet connected to. */
export interface PreparedPull {
  open(o: {
    readonly gate: IngestGate
    readonly meta: MetaStore
    readonly env: Env
    readonly metrics: Metrics
    readonly doors: readonly OwnDoor[]
  }): Promise<MqttPull>
}

/** The MQTT doors that the settings ask for; a port of 0 is not known before it is open. */
export function configuredDoors({ mqtt }: Pick<Config, 'mqtt'>): readonly OwnDoor[] {
  return [
    ...(mqtt.plain && mqtt.port !== 0 ? [{ host: mqtt.host, port: mqtt.port }] : []),
    ...(mqtt.tls.cert_file !== '' && mqtt.tls.port !== 0 ? [{ host: mqtt.host, port: mqtt.tls.port }] : []),
  ]
}

/** Before anything is opened: throws config_invalid for settings that are wrong, or a broker that is our own door. Undefined: none is set. */
export async function preparePull(config: Config): Promise<PreparedPull | undefined> {
  if (config.mqtt.pull.url === '') return undefined
  const [{ configuredPull }, { isOwnDoor, refuseOwnDoor }] = await Promise.all([
    import('../doors/pull/mqtt/configured.ts'),
    import('../doors/pull/mqtt/own-door.ts'),
  ])
  const settings = configuredPull(config)
  if (settings === undefined) return undefined
  await refuseOwnDoor(settings.address, configuredDoors(config))
  return {
    async open({ doors, ...parts }) {
      const { openMqttPull } = await import('../doors/pull/mqtt/door.ts')
      return openMqttPull({ ...settings, ...parts, packetBytesMax: config.mqtt.packet_bytes_max, isOwn: (peer) => isOwnDoor(peer, doors) })
    },
  }
}

/** How it is, as a part of the server that is ready without it. */
export function pullComponent(pull: MqttPull): SystemStatus['components'][number] {
  const { connected, detail } = pull.status()
  return { name: 'mqtt pull', ok: connected, detail, optional: true }
}
