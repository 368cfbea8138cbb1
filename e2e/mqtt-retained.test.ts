import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { shell, without } from '../test/support/programs.ts'
import { RunningServer } from '../test/support/server.ts'

describe('retained messages, with the clients of Mosquitto', { skip: without('mosquitto_pub', 'mosquitto_sub') }, () => {
  let server: RunningServer
  before(async () => {
    server = await RunningServer.start()
  })
  after(() => server.dispose())
  const pub = (args: string): Promise<string> => shell(`mosquitto_pub -h 127.0.0.1 -p ${server.mqttPort} -q 1 ${args}`)
  /** What a new subscriber gets at once. */
  const retained = (filter: string, version: '311' | '5', count: number): Promise<string> =>
    shell(`mosquitto_sub -h 127.0.0.1 -p ${server.mqttPort} -V ${version} -q 1 -t '${filter}' -C ${count} -W 10 -F '%r %q %t %p' | sort`)

  it('outlive a kill of the server, and are gone when they are cleared', async () => {
    await pub(`-V 5 -r -t state/pump -m on`)
    await pub(`-V 311 -r -t state/valve -m closed`)
    await pub(`-V 5 -r -t state/lamp -m off`)
    await pub(`-V 5 -r -t state/lamp -n`)
    await pub(`-r -t telemetry/r-1 -m '{"temperature":21}'`)
    assert.equal(await retained('state/+', '5', 2), '1 1 state/pump on\n1 1 state/valve closed\n')
    await server.kill()
    server = await server.restart()
    assert.equal(await retained('state/#', '311', 2), '1 1 state/pump on\n1 1 state/valve closed\n')
    assert.equal(await retained('telemetry/r-1', '5', 1), '1 1 telemetry/r-1 {"temperature":21}\n')
  })
})
