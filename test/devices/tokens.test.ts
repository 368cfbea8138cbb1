import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { openTokens } from '../../src/devices/tokens.ts'
import { openSqliteMeta } from '../../src/store/meta/sqlite.ts'
import { settle, testEnv } from './test-env.ts'

const dir = mkdtempSync(join(tmpdir(), 'kymo-tokens-'))
after(() => rmSync(dir, { recursive: true, force: true }))
let files = 0
const newFile = (): string => join(dir, `meta-${++files}.sqlite`)

describe('tokens', () => {
  it('are shown once, verified by scope and tenant, and revoked', async () => {
    const env = testEnv()
    const meta = await openSqliteMeta({ path: ':memory:', env, thread: false })
    const tokens = await openTokens({ meta, env })
    assert.equal(tokens.any, false)
    const { token, info } = await tokens.create({ name: 'gateway', scopes: ['ingest', 'ingest', 'read'], tenant: 'acme' })
    assert.match(token, /^tk_[A-Za-z0-9_-]{43}$/)
    assert.deepEqual(info, { id: info.id, name: 'gateway', scopes: ['ingest', 'read'], created_us: env.clock.us })
    assert.equal(tokens.any, true)
    assert.deepEqual(tokens.verify(token), { tenant: 'acme', id: info.id, scopes: new Set(['ingest', 'read']) })
    for (const wrong of ['', 'tk_', token.slice(0, -1), `${token}A`, token.toLowerCase(), `tk_${'A'.repeat(43)}`, info.id, '__proto__']) {
      assert.equal(tokens.verify(wrong), undefined, wrong)
    }
    env.clock.us += 3
    const other = await tokens.create({ name: 'other', scopes: ['admin'] })
    assert.notEqual(other.token, token)
    assert.equal(tokens.verify(other.token)?.tenant, 'default')
    env.clock.us += 3
    assert.equal(await tokens.revoke(info.id), true)
    assert.equal(tokens.verify(token), undefined)
    assert.ok(tokens.verify(other.token) !== undefined)
    assert.deepEqual(await tokens.list(), [{ ...info, revoked_us: env.clock.us }, other.info])
    env.clock.us += 3
    assert.equal(await tokens.revoke(info.id), true)
    assert.equal((await tokens.list())[0]?.revoked_us, env.clock.us - 3, 'the first revocation counts')
    assert.equal(await tokens.revoke('nobody'), false)
    await tokens.revoke(other.info.id)
    assert.equal(tokens.any, false)
    await tokens.close()
    assert.equal(env.clock.timers, 0)
  })

  it('verify an MQTT login by password, or by user name alone', async () => {
    const env = testEnv()
    const meta = await openSqliteMeta({ path: ':memory:', env, thread: false })
    const tokens = await openTokens({ meta, env, watch: false })
    const { token, info } = await tokens.create({ name: 'd', scopes: ['ingest'] })
    assert.equal(tokens.verifyLogin('anything', token)?.id, info.id)
    assert.equal(tokens.verifyLogin(undefined, token)?.id, info.id)
    assert.equal(tokens.verifyLogin(token, undefined)?.id, info.id)
    assert.equal(tokens.verifyLogin(token, '')?.id, info.id)
    assert.equal(tokens.verifyLogin(token, 'wrong'), undefined, 'a wrong password is not saved by the user name')
    assert.equal(tokens.verifyLogin('user', 'password'), undefined)
    assert.equal(tokens.verifyLogin(undefined, undefined), undefined)
  })

  it('leave nothing of themselves in the file or the log', async () => {
    const env = testEnv()
    const path = newFile()
    const meta = await openSqliteMeta({ path, env, thread: false })
    const tokens = await openTokens({ meta, env, watch: false })
    const { token } = await tokens.create({ name: 'secret', scopes: ['admin'] })
    tokens.verify(token)
    await meta.close()
    const bytes = readFileSync(path)
    assert.ok(bytes.includes('secret'), 'the document is in the file')
    assert.ok(!bytes.includes(token.slice(3)), 'and the token is not')
    assert.ok(!env.logged.some((line) => line.includes(token.slice(3))))
  })

  it('are taken over from another process within about a second', async () => {
    const env = testEnv()
    const path = newFile()
    const meta = await openSqliteMeta({ path, env, thread: false })
    const server = await openTokens({ meta, env })
    const first = await server.create({ name: 'first', scopes: ['read'] })
    const script = `
      import { nodeEnv, silentLogger } from '${new URL('../../src/core/env/node-env.ts', import.meta.url).href}'
      import { openSqliteMeta } from '${new URL('../../src/store/meta/sqlite.ts', import.meta.url).href}'
      import { openTokens } from '${new URL('../../src/devices/tokens.ts', import.meta.url).href}'
      const env = nodeEnv(silentLogger)
      const meta = await openSqliteMeta({ path: process.argv[1], env, thread: false })
      const tokens = await openTokens({ meta, env, watch: false })
      const made = await tokens.create({ name: 'second', scopes: ['ingest'] })
      await tokens.revoke(process.argv[2])
      await meta.close()
      console.log(made.token)`
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', script, path, first.info.id], { encoding: 'utf8' })
    assert.equal(child.stderr, '')
    const second = child.stdout.trim()
    assert.equal(server.verify(second), undefined)
    assert.ok(server.verify(first.token) !== undefined)
    await env.clock.advance(1_000)
    assert.ok(server.verify(second) !== undefined)
    assert.equal(server.verify(first.token), undefined)
    await server.close()
    await meta.close()
  })

  it('that were read before a write was done never replace those of after it', async () => {
    const env = testEnv()
    const inner = await openSqliteMeta({ path: ':memory:', env, thread: false })
    let hold: Promise<void> | undefined
    let revision = 0
    const meta = {
      get: inner.get.bind(inner),
      write: inner.write.bind(inner),
      count: inner.count.bind(inner),
      close: inner.close.bind(inner),
      outsideRevision: async () => revision,
      async list(...args: Parameters<typeof inner.list>) {
        const rows = await inner.list(...args)
        const wait = hold
        hold = undefined
        await wait
        return rows
      },
    }
    const tokens = await openTokens({ meta, env, watch: false })
    let release = (): void => undefined
    hold = new Promise((resolve) => (release = resolve))
    revision++
    const slow = tokens.reload()
    await settle()
    const created = tokens.create({ name: 'new', scopes: ['read'] })
    await settle()
    release()
    const { token } = await created
    await slow
    assert.ok(tokens.verify(token) !== undefined)
  })

  it('stay good while the meta store does not answer', async () => {
    const env = testEnv()
    const meta = await openSqliteMeta({ path: ':memory:', env, thread: false })
    const tokens = await openTokens({ meta, env })
    const { token } = await tokens.create({ name: 'a', scopes: ['read'] })
    await meta.close()
    await env.clock.advance(1_000)
    await env.clock.advance(1_000)
    assert.ok(tokens.verify(token) !== undefined)
    assert.equal(env.logged.filter((line) => line.startsWith('tokens could not be read again')).length, 1)
    await tokens.close()
  })
})
