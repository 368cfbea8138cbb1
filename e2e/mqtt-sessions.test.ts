import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { shell, without } from '../test/support/programs.ts'
import { RunningServer } from '../test/support/server.ts'

describe('sessions and wills, with the clients of Mosquitto', { skip: without('mosquitto_pub', 'mosquitto_sub') }, () => {
  let server: RunningServer
  before(async () => {
    server = await RunningServer.start()
  })
  after(() => server.dispose())
  const pub = (args: string): Promise<string> => shell(`mosquitto_pub -h 127.0.0.1 -p ${server.mqttPort} ${args}`)
  const sub = (args: string): Promise<string> => shell(`mosquitto_sub -h 127.0.0.1 -p ${server.mqttPort} -W 10 -F '%q %t %p' ${args}`)

  for (const [version, stays] of [
    ['311', '-c'],
    ['5', '-c -x 3600'],
  ] as const) {
    it(`MQTT ${version}: what comes while the client is away, and while the server is, is there when both are back`, async () => {
      const client = `-V ${version} -i keeper-${version} ${stays} -t 'orders/${version}/#' -q 2`
      await sub(`${client} -E`)
      await pub(`-V ${version} -q 1 -t orders/${version}/1 -m one`)
      await pub(`-V ${version} -q 2 -t orders/${version}/2 -m two`)
      await server.kill()
      server = await server.restart()
      await pub(`-V 5 -q 1 -t orders/${version}/3 -m three`)
      // It shows a message of QoS 2 once that is released, behind those of QoS 1 that were sent after it.
      const lines = (await sub(`${client} -C 3`)).trim().split('\n')
      assert.deepEqual(lines.toSorted(), [`1 orders/${version}/1 one`, `1 orders/${version}/3 three`, `2 orders/${version}/2 two`])
    })
  }

  it('a will with a delay is published when it is over', async () => {
    const will = `--will-topic gone/w --will-payload lost --will-qos 1 --will-retain -D will will-delay-interval 1`
    // Ended by a signal that it cannot answer: the connection is lost.
    await shell(`timeout -s KILL 1 mosquitto_sub -h 127.0.0.1 -p ${server.mqttPort} -V 5 -i lost -c -x 60 -t x ${will} || true`)
    assert.equal(await sub(`-V 5 -t 'gone/#' -q 1 -C 1`), '1 gone/w lost\n')
  })
})
