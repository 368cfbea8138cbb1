import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkTogether, loadConfig } from '../../src/core/config-resolve.ts'
import { doorErrors } from '../../src/core/config-doors.ts'

const pair = (door: string): Record<string, unknown> => ({ [`${door}.tls.cert_file`]: 'c.pem', [`${door}.tls.key_file`]: 'k.pem' })

test('settings of TLS that cannot work together are named', () => {
  const named = (flags: Record<string, unknown>): string[] => doorErrors(loadConfig({ flags })).map(({ pointer }) => pointer)
  const cases: readonly (readonly [Record<string, unknown>, readonly string[]])[] = [
    [{}, []],
    [{ ...pair('http'), ...pair('mqtt'), 'mqtt.plain': false }, []],
    [{ 'http.tls.cert_file': 'c.pem' }, ['http.tls.key_file']],
    [{ 'mqtt.tls.key_file': 'k.pem' }, ['mqtt.tls.cert_file']],
    [{ 'mqtt.plain': false }, ['mqtt.plain']],
    [{ ...pair('mqtt'), 'mqtt.plain': false, 'demo.devices': 10 }, ['demo.devices']],
    [{ ...pair('mqtt'), 'demo.devices': 10 }, []],
    [{ 'mqtt.tls.client_certificates': 'require' }, ['mqtt.tls.client_certificates']],
    [{ ...pair('mqtt'), 'mqtt.tls.client_certificates': 'request' }, ['mqtt.tls.ca_file']],
    [{ ...pair('mqtt'), 'mqtt.tls.client_certificates': 'require', 'mqtt.tls.ca_file': 'ca.pem' }, []],
    [{ ...pair('mqtt'), 'mqtt.tls.identity': 'cn' }, ['mqtt.tls.identity']],
    [{ ...pair('mqtt'), 'mqtt.tls.client_certificates': 'request', 'mqtt.tls.ca_file': 'ca.pem', 'mqtt.tls.identity': 'san' }, []],
    [{ ...pair('http'), 'http.tls.ca_file': 'ca.pem' }, ['http.tls.client_certificates']],
  ]
  for (const [flags, expected] of cases) assert.deepEqual(named(flags), expected, JSON.stringify(flags))
  assert.throws(() => checkTogether(loadConfig({ flags: { 'mqtt.plain': false } })), /mqtt\.plain: is off and there is no mqtt\.tls\.cert_file/)
})
