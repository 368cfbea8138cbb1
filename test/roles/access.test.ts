import assert from 'node:assert/strict'
import test from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { effectiveAuth } from '../../src/roles/access.ts'

type Flags = Readonly<Record<string, string>>

function accessOf(flags: Flags, tokens: boolean): string {
  try {
    return effectiveAuth(loadConfig({ flags }), tokens)
  } catch (thrown) {
    assert.ok(thrown instanceof KymoError)
    return `${thrown.code}: ${thrown.message}`
  }
}

const production = { environment: 'production' }
const beyond = { 'http.host': '0.0.0.0' }

test('who may come in follows from where the doors are bound, auth, environment and whether there are tokens', () => {
  const table: readonly [flags: Flags, withoutTokens: RegExp, withTokens: RegExp][] = [
    [{}, /^loopback$/, /^loopback$/],
    [{ auth: 'open' }, /^loopback$/, /^loopback$/],
    [{ auth: 'token' }, /^tokens_missing: Everyone is asked/, /^token$/],
    [production, /^tokens_missing: environment is production.*on loopback too.*kymo tokens create/, /^token$/],
    [{ ...production, auth: 'open' }, /^config_invalid: auth is open/, /^config_invalid: auth is open/],
    [beyond, /^open_beyond_loopback: Bound beyond loopback/, /^token$/],
    [{ 'mqtt.host': '192.0.2.1' }, /^open_beyond_loopback: /, /^token$/],
    [{ ...beyond, auth: 'open' }, /^open$/, /^open$/],
    [{ ...beyond, ...production }, /^tokens_missing: environment is production/, /^token$/],
  ]
  for (const [flags, without, withTokens] of table) {
    assert.match(accessOf(flags, false), without, JSON.stringify(flags))
    assert.match(accessOf(flags, true), withTokens, JSON.stringify(flags))
  }
})
