import { limits } from './limits.ts'
import { neverExpires } from './session-store.ts'
import { choice, text, whole } from './setting.ts'

/** `mqtt.pull`: the outside broker whose messages are taken. */
export const pullSettings = {
  url: text({
    description: 'An outside broker whose messages are taken: mqtt://host:1883, or mqtts://host:8883. Empty: none.',
    default: '',
  }),
  topics: text({
    description:
      'What is subscribed to there, at QoS 1, separated by commas: as mqtt.topics, also $share/<group>/ before one. Empty: those of mqtt.topics.',
    default: '',
  }),
  client_id: text({
    description: 'The name of the session that the broker keeps for us; no other client may have it. Empty: one that is made once and kept.',
    default: '',
  }),
  version: choice(['auto', '5', '3.1.1'], {
    description: 'MQTT version that is spoken to it. auto: 5, and 3.1.1 with a broker that does not speak it.',
    default: 'auto',
  }),
  group: text({
    description:
      'A shared subscription: Kymo processes of one group divide what comes, each message going to one of them. Put before each topic as $share/<group>/.',
    default: '',
  }),
  session_expiry_s: whole({
    description:
      'How long the broker is asked to keep the session, and what comes meanwhile, while Kymo is away. 4294967295: for ever. MQTT 5 only; in 3.1.1 the broker decides.',
    default: limits.mqttPullSessionExpiryS,
    minimum: 60,
    maximum: neverExpires,
    unit: 's',
  }),
  inflight_max: whole({
    description:
      'Messages of QoS 1 that the broker may send before the first of them is durable; MQTT 5 tells it so (Receive Maximum). Fewer make a group share more evenly.',
    default: limits.mqttPullInflightMax,
    minimum: 1,
    maximum: limits.mqttPullInflightMax,
  }),
  username: text({ description: 'User name at the broker, in place of one in the URL.', default: '' }),
  password: text({ description: 'Password or token at the broker, in place of one in the URL.', default: '', secret: true }),
  keepalive_s: whole({
    description: 'A connection on which nothing was sent for so long is probed, and is lost without an answer.',
    default: 30,
    minimum: 5,
    maximum: 65535,
    unit: 's',
  }),
  ca_file: text({
    description: 'Certificates in PEM that vouch for that of an mqtts:// broker. Empty: those that Node brings along.',
    default: '',
  }),
  cert_file: text({ description: 'Our own certificate in PEM, for a broker that asks for one.', default: '' }),
  key_file: text({ description: 'Its private key in PEM.', default: '' }),
}
