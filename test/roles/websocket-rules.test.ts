import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { mqttUpgrades, sameAuthorities } from '../../src/roles/doors.ts'

const http = { 'http.tls.cert_file': 'c', 'http.tls.key_file': 'k' }
const mqtt = { 'mqtt.tls.cert_file': 'c', 'mqtt.tls.key_file': 'k' }
const httpClients = { ...http, 'http.tls.client_certificates': 'require', 'http.tls.ca_file': 'ca' }
const mqttClients = { ...mqtt, 'mqtt.tls.client_certificates': 'require', 'mqtt.tls.ca_file': 'ca' }
const noPlain = { 'mqtt.plain': false }

test('MQTT over WebSocket lets nobody in whom the MQTT ports would not', () => {
  for (const [flags, open] of [
    [{}, true],
    [{ 'mqtt.ws': false }, false],
    [{ ...mqtt, ...noPlain }, false],
    [{ ...mqtt, ...noPlain, ...http }, true],
    [{ ...mqttClients }, true],
    [{ ...mqttClients, ...noPlain }, false],
    [{ ...mqttClients, ...noPlain, ...http }, false],
    [{ ...mqttClients, ...noPlain, ...httpClients }, true],
    [{ ...mqttClients, ...noPlain, ...httpClients, 'http.tls.ca_file': 'other' }, false],
  ] as const) {
    const paths = mqttUpgrades(loadConfig({ flags }), { upgrade() {} }).map(({ path }) => path)
    assert.deepEqual(paths, open ? ['/mqtt'] : [], JSON.stringify(flags))
  }
})

test('a certificate shown to the HTTP door counts where the same authorities vouch for it', () => {
  assert.equal(sameAuthorities(loadConfig({ flags: { ...mqttClients, ...httpClients } })), true)
  assert.equal(sameAuthorities(loadConfig({ flags: { ...mqttClients, ...httpClients, 'http.tls.ca_file': 'other' } })), false)
  assert.equal(sameAuthorities(loadConfig({ flags: { ...mqttClients, ...http } })), false)
  assert.equal(sameAuthorities(loadConfig({ flags: httpClients })), false)
})
