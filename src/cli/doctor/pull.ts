import type { Config } from '../../core/config.ts'
import { nodeClock } from '../../core/env/node-env.ts'
import { asKymoError } from '../../core/errors.ts'
import { configuredPull } from '../../doors/pull/mqtt/configured.ts'
import { refuseOwnDoor } from '../../doors/pull/mqtt/own-door.ts'
import { probeBroker } from '../../doors/pull/mqtt/probe.ts'
import { refusedText } from '../../doors/pull/mqtt/reasons.ts'
import { configuredDoors } from '../../roles/mqtt-pull.ts'
import { addressText } from '../../wire/mqtt/address.ts'
import { subscribeRefused } from '../../wire/mqtt/packets.ts'
import { fail, ok, warn, type Finding } from './finding.ts'

const check = 'mqtt pull'

/**
 * The outside broker, when one is set: whether it is our own door, answers, takes our credentials and grants the subscriptions. Asked with a session of
 * its own that ends at once, so that a running server's is left alone.
 */
export async function checkPull(config: Config): Promise<Finding[]> {
  let broker = ''
  try {
    const settings = configuredPull(config)
    if (settings === undefined) return []
    broker = addressText(settings.address)
    await refuseOwnDoor(settings.address, configuredDoors(config))
    const answer = await probeBroker({ pull: settings, name: `doctor-${process.pid}`, clock: nodeClock })
    if ('fault' in answer) {
      const fix =
        'Nothing else waits for it: a server starts, and connects once it can. Look at mqtt.pull.url, its user and password, and the network.'
      return [fail(check, 'server_unreachable', `${broker}: ${answer.fault}`, fix)]
    }
    const refused = [...answer.codes].filter(([, code]) => code >= subscribeRefused)
    if (refused.length > 0)
      return [fail(check, 'forbidden', `${broker} refuses ${refusedText(refused)}`, 'Give this user the right to subscribe there.')]
    const weak = [...answer.codes].filter(([, code]) => code === 0).map(([filter]) => filter)
    if (weak.length > 0)
      return [warn(check, `${broker} grants only QoS 0 to ${weak.join(', ')}`, 'What it sends while the server is away is lost; allow QoS 1.')]
    const { size } = answer.codes
    return [ok(check, `${broker} grants ${size} subscription${size === 1 ? '' : 's'} by MQTT ${answer.version}`)]
  } catch (thrown) {
    const { code, message } = asKymoError(thrown)
    return [fail(check, code, message, 'kymo config docs says what may be set.')]
  }
}
