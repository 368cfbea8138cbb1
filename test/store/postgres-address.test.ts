import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, it } from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { parseAddress } from '../../src/store/pg/address.ts'
import { metaMigrations, storeMigrations } from '../../src/store/pg/components.ts'

void describe('An address of PostgreSQL', () => {
  void it('names hosts, credentials, database and schema', () => {
    const { hosts, schema, readWrite } = parseAddress('postgres://iot:p%40ss%3A@db-1,db-2:6432,[::1]:7432/iot%20analytics?schema=kymo_a')
    assert.deepEqual(
      hosts.map((one) => one.config()),
      [
        ['db-1', 5432],
        ['db-2', 6432],
        ['::1', 7432],
      ].map(([host, port]) => ({ host, port, ssl: false, application_name: 'kymo', user: 'iot', password: 'p@ss:', database: 'iot analytics' })),
    )
    assert.deepEqual([schema, readWrite], ['kymo_a', true])
    assert.deepEqual(parseAddress('postgresql:///kymo').hosts[0]!.config(), {
      host: 'localhost',
      port: 5432,
      ssl: false,
      application_name: 'kymo',
      database: 'kymo',
    })
    assert.equal(parseAddress('postgres://db/kymo').readWrite, false)
    assert.equal(parseAddress('postgres://db/kymo?target_session_attrs=read-write').readWrite, true)
    assert.equal(parseAddress('postgres://a,b/kymo?target_session_attrs=any').readWrite, false)
  })

  void it('asks for TLS as libpq does, and reads certificates anew for each connection', () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-address-'))
    const ca = path.join(dir, 'ca.pem')
    fs.writeFileSync(ca, 'first')
    const ssl = (query: string) => parseAddress(`postgres://db/kymo?${query}`).hosts[0]!.config().ssl
    assert.deepEqual(ssl('sslmode=verify-full'), { rejectUnauthorized: true })
    assert.deepEqual({ ...Object(ssl('sslmode=require')), checkServerIdentity: 0 }, { rejectUnauthorized: false, checkServerIdentity: 0 })
    const { hosts } = parseAddress(`postgres://db/kymo?sslrootcert=${encodeURIComponent(ca)}`)
    assert.deepEqual(hosts[0]!.config().ssl, { ca: Buffer.from('first'), rejectUnauthorized: true })
    fs.writeFileSync(ca, 'second')
    assert.deepEqual(hosts[0]!.config().ssl, { ca: Buffer.from('second'), rejectUnauthorized: true })
    fs.rmSync(dir, { recursive: true })
  })

  void it('is refused with what is wrong, and never shown', () => {
    for (const [url, said] of [
      ['mysql://u:secret@db/kymo', /postgres:\/\//],
      ['postgres://u:secret@db:99999/kymo', /port/],
      ['postgres://u:secret@db:x/kymo', /name:port/],
      ['postgres://u:secret@db/kymo?schema=Kymo', /schema/],
      ['postgres://u:secret@db/kymo?sslmode=prefer', /sslmode is disable, require/],
      ['postgres://u:secret@db/kymo?sslrootcert=/nowhere.pem', /nowhere/],
      ['postgres://u:secret@db/kymo?target_session_attrs=standby', /target_session_attrs/],
      ['postgres://u:secret@db/kymo?ssl_mode=require', /unknown parameter ssl_mode/],
    ] as const)
      assert.throws(
        () => parseAddress(url),
        (thrown) =>
          thrown instanceof KymoError && thrown.code === 'config_invalid' && said.test(thrown.message) && !thrown.message.includes('secret'),
        url,
      )
  })
})

void describe('Migrations', () => {
  void it('count from 1, and are in the package', () => {
    const root = new URL('../../', import.meta.url).pathname
    const packed = JSON.parse(
      execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    ) as readonly { readonly files: readonly { readonly path: string }[] }[]
    const files = new Set(packed[0]?.files.map((file) => file.path))
    for (const [folder, migrations] of [
      ['src/store/postgres', storeMigrations],
      ['src/store/meta', metaMigrations],
    ] as const) {
      assert.deepEqual(
        migrations.map(({ version }) => version),
        migrations.map((_, i) => i + 1),
      )
      for (const { version, name } of migrations) {
        const file = `${folder}/migrations/${String(version).padStart(4, '0')}-${name}.sql`
        assert.ok(files.has(file), `${file} is not in the package`)
      }
    }
  })
})
