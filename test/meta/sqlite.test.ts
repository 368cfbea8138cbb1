import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import type { Code } from '../../src/core/errors.ts'
import type { MetaWrite } from '../../src/core/ports.ts'
import { SqliteDocuments } from '../../src/store/meta/documents.ts'
import type { EncodedWrite } from '../../src/store/meta/calls.ts'
import { ThreadEngine } from '../../src/store/meta/engine.ts'
import { sqliteError } from '../../src/store/meta/schema.ts'
import { openSqliteMeta } from '../../src/store/meta/sqlite.ts'

const dir = mkdtempSync(join(tmpdir(), 'kymo-meta-'))
after(() => rmSync(dir, { recursive: true, force: true }))
const env = nodeEnv(silentLogger)
let files = 0
const newFile = (): string => join(dir, `meta-${++files}.sqlite`)
const put = (id: string, fields: object = {}): MetaWrite => ({ op: 'put', collection: 'things', tenant: 'default', doc: { id, ...fields } })

async function rejectsWith(code: Code, work: Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error: unknown) => error instanceof KymoError && error.code === code)
}

for (const thread of [true, false]) {
  describe(`metadata file, ${thread ? 'in its thread' : 'in the caller’s thread'}`, () => {
    it('is refused when a newer version wrote it', async () => {
      const path = newFile()
      await (await openSqliteMeta({ path, env, thread })).close()
      const db = new DatabaseSync(path)
      db.exec('PRAGMA user_version = 2')
      db.close()
      await rejectsWith('store_format', openSqliteMeta({ path, env, thread }))
    })

    it('is refused when it is another program’s, and left as it was', async () => {
      const path = newFile()
      const db = new DatabaseSync(path)
      db.exec('CREATE TABLE theirs (a)')
      db.close()
      const theirs = readFileSync(path)
      await rejectsWith('meta_corrupt', openSqliteMeta({ path, env, thread }))
      assert.deepEqual(readFileSync(path), theirs)
      const noise = newFile()
      writeFileSync(noise, 'this is not a database, though it is long enough to be looked at as if it were one.'.repeat(20))
      const before = readFileSync(noise)
      await rejectsWith('meta_corrupt', openSqliteMeta({ path: noise, env, thread }))
      assert.deepEqual(readFileSync(noise), before)
    })

    it('says what is wrong when it cannot be opened', async () => {
      await rejectsWith('store_unavailable', openSqliteMeta({ path: dir, env, thread }))
    })

    it('is readable by its owner and group only', async () => {
      const path = join(dir, `new-folder-${thread}`, 'meta.sqlite')
      const meta = await openSqliteMeta({ path, env, thread })
      await meta.write([put('a')])
      for (const suffix of ['', '-wal', '-shm']) assert.equal(statSync(path + suffix).mode & 0o007, 0)
      await meta.close()
    })

    it('tells whether somebody else has written, and not whether we have', async () => {
      const path = newFile()
      const one = await openSqliteMeta({ path, env, thread })
      const two = await openSqliteMeta({ path, env, thread: false })
      const revision = await one.outsideRevision()
      await one.write([put('a')])
      assert.equal(await one.outsideRevision(), revision)
      await two.write([put('b')])
      const after = await one.outsideRevision()
      assert.notEqual(after, revision)
      assert.equal(await one.outsideRevision(), after)
      assert.deepEqual(
        (await one.list('things', 'default', { limit: 5 })).map((row) => row.doc.id),
        ['a', 'b'],
      )
      await one.close()
      await two.close()
    })

    it('refuses more than may wait, and serves what waits', async () => {
      const meta = await openSqliteMeta({ path: newFile(), env, thread })
      const big = 'x'.repeat(1024 * 1024)
      const results = await Promise.allSettled(Array.from({ length: 80 }, (_, n) => meta.write([put(`d${n}`, { big })])))
      const refused = results.filter((result) => result.status === 'rejected')
      assert.ok(refused.length >= 10 && refused.length <= 20, `${refused.length} of 80 refused`)
      assert.ok(refused.every(({ reason }) => reason instanceof KymoError && reason.code === 'overloaded'))
      assert.equal(await meta.count('things', 'default'), 80 - refused.length)
      await meta.write([put('later')])
      await meta.close()
    })
  })
}

describe('metadata thread', () => {
  it('carries the largest call and the largest answer within its memory', async () => {
    const meta = await openSqliteMeta({ path: newFile(), env, thread: true })
    const text = 'я'.repeat(500_000)
    for (let round = 0; round < 3; round++) await meta.write(Array.from({ length: 15 }, (_, n) => put(`${round}-${n}`, { text })))
    const rows = await meta.list('things', 'default', { limit: 100 })
    assert.equal(rows.length, 45)
    assert.ok(rows.every((row) => row.doc['text'] === text))
    await meta.close()
  })

  it('puts calls of one moment into one transaction', async () => {
    const path = newFile()
    const meta = await openSqliteMeta({ path, env, thread: true })
    await meta.write([put('first')])
    const walBefore = statSync(`${path}-wal`).size
    await Promise.all(Array.from({ length: 500 }, (_, n) => meta.write([put(`d${n}`)])))
    // A transaction writes each page that it changed: 500 of them would be 500 pages of 4 KiB at the least.
    const pages = (statSync(`${path}-wal`).size - walBefore) / 4096
    assert.ok(pages < 50, `${pages} pages were written`)
    assert.equal(await meta.count('things', 'default'), 501)
    await meta.close()
  })

  it('is started again after it died, and what was under way is told as failed', async () => {
    const errors: string[] = []
    const logger = { ...silentLogger, error: (message: string) => void errors.push(message) }
    const engine = await ThreadEngine.open(newFile(), logger)
    const write = (id: string, body: string): EncodedWrite => ({ collection: 'things', tenant: 't', id, body })
    try {
      await engine.apply([[write('kept', '{"id":"kept"}')]])
      const revision = await engine.outsideRevision()
      // More than the thread may hold, which the store in front of it would have refused.
      const text = 'я'.repeat(10_000_000)
      await rejectsWith('store_unavailable', engine.apply(Array.from({ length: 12 }, (_, n) => [write(String(n), text)])))
      assert.equal((await engine.get('things', 't', 'kept'))?.body, '{"id":"kept"}')
      assert.equal(await engine.count('things', 't'), 1)
      assert.notEqual(await engine.outsideRevision(), revision, 'what others wrote meanwhile must not go unnoticed')
      assert.deepEqual(errors, ['the metadata thread failed'])
    } finally {
      await engine.close()
    }
  })
})

describe('documents of one connection', () => {
  it('roll back a whole transaction when it fails, and go on', () => {
    const documents = new SqliteDocuments(':memory:')
    const write = (id: string, body: string) => ({ collection: 'things', tenant: 't', id, body })
    // A body that is no text cannot be stored in a STRICT table: not a matter of one call.
    const broken = { collection: 'things', tenant: 't', id: 'x', body: 1n as unknown as string, expect: 0 }
    documents.apply([[write('a', '{"id":"a"}')]])
    assert.deepEqual(
      documents.apply([[write('b', '{"id":"b"}')], [{ ...write('a', '{}'), expect: 0 }]]).map((outcome) => 'error' in outcome && outcome.error.code),
      [false, 'already_exists'],
    )
    assert.throws(() => documents.apply([[write('c', '{"id":"c"}')], [{ ...broken, collection: null as unknown as string }]]), KymoError)
    assert.equal(documents.count('things', 't'), 2)
    documents.apply([[write('d', '{"id":"d"}')]])
    assert.equal(documents.count('things', 't'), 3)
    documents.close()
  })

  it('tell by SQLite’s code what kind of trouble it is', () => {
    const of = (errcode: number): string => sqliteError(Object.assign(new Error('x'), { errcode })).code
    assert.deepEqual(
      [13, 5, 517, 10, 522, 1034, 1290, 11, 267, 26, 14, 8, 1].map((errcode) => [errcode, of(errcode)]),
      [
        [13, 'disk_full'],
        [5, 'store_unavailable'],
        [517, 'store_unavailable'],
        [10, 'store_unavailable'],
        [522, 'store_unavailable'],
        [1034, 'fsync_failed'],
        [1290, 'fsync_failed'],
        [11, 'meta_corrupt'],
        [267, 'meta_corrupt'],
        [26, 'meta_corrupt'],
        [14, 'store_unavailable'],
        [8, 'store_unavailable'],
        [1, 'bug'],
      ],
    )
    assert.equal(sqliteError(new Error('no code')).code, 'bug')
  })
})
