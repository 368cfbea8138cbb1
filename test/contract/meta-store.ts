import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { KymoError } from '../../src/core/errors.ts'
import type { Code } from '../../src/core/errors.ts'
import type { MetaDocument, MetaStore, MetaWrite } from '../../src/core/ports.ts'
import { fuzzRuns } from '../support/effort.ts'

/** What an adapter's test hands to the suite. */
export interface MetaStoreSubject {
  readonly name: string
  /** An empty database of its own; `location` is what `open` takes, in this process and in a child. */
  create(): Promise<{ readonly location: string; remove(): Promise<void> }>
  /** URL of a module that exports `open(location: string): Promise<MetaStore>`. */
  readonly module: URL
}

export interface MetaStoreModule {
  open(location: string): Promise<MetaStore>
}

const put = (doc: MetaDocument, expect?: number, tenant = 'default', collection = 'things'): MetaWrite => ({
  op: 'put',
  collection,
  tenant,
  doc,
  ...(expect === undefined ? {} : { expect }),
})
const remove = (id: string, expect?: number, tenant = 'default'): MetaWrite => ({
  op: 'delete',
  collection: 'things',
  tenant,
  id,
  ...(expect === undefined ? {} : { expect }),
})

async function rejectsWith(code: Code, work: Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error: unknown) => error instanceof KymoError && error.code === code)
}

/** The order that every adapter gives: by bytes of UTF-8, which is by code point (COLLATE "C" in PostgreSQL). */
function byUtf8(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

export function metaStoreContract(subject: MetaStoreSubject): void {
  describe(`MetaStore contract: ${subject.name}`, () => {
    let location = ''
    let removeLocation = async (): Promise<void> => undefined
    let module: MetaStoreModule
    let store: MetaStore

    before(async () => {
      module = (await import(subject.module.href)) as MetaStoreModule
      const created = await subject.create()
      location = created.location
      removeLocation = () => created.remove()
      store = await module.open(location)
    })
    after(async () => {
      await store.close()
      await removeLocation()
    })
    /** A tenant of its own for each test, so that tests do not see each other. */
    let tenants = 0
    const tenant = (): string => `t${++tenants}`

    it('gives back what was put, with versions from 1', async () => {
      const t = tenant()
      const doc = { id: 'a', text: 'x', number: 1.5, yes: true, none: null, list: [1, { b: 2 }], nested: { c: '…' } }
      assert.equal(await store.get('things', t, 'a'), undefined)
      assert.deepEqual(await store.write([put(doc, undefined, t)]), [{ doc, version: 1 }])
      assert.deepEqual(await store.get('things', t, 'a'), { doc, version: 1 })
      assert.deepEqual(await store.write([put({ id: 'a', now: 'less' }, undefined, t)]), [{ doc: { id: 'a', now: 'less' }, version: 2 }])
      assert.deepEqual(await store.get('things', t, 'a'), { doc: { id: 'a', now: 'less' }, version: 2 })
    })

    it('compares and sets', async () => {
      const t = tenant()
      await store.write([put({ id: 'a' }, 0, t)])
      await rejectsWith('already_exists', store.write([put({ id: 'a', n: 1 }, 0, t)]))
      await rejectsWith('version_conflict', store.write([put({ id: 'a', n: 1 }, 2, t)]))
      await rejectsWith('version_conflict', store.write([put({ id: 'b' }, 1, t)]))
      assert.equal((await store.write([put({ id: 'a', n: 1 }, 1, t)]))[0]?.version, 2)
      await rejectsWith('version_conflict', store.write([remove('a', 1, t)]))
      assert.deepEqual(await store.write([remove('a', 2, t)]), [])
      assert.equal(await store.get('things', t, 'a'), undefined)
      await rejectsWith('version_conflict', store.write([remove('a', 2, t)]))
      assert.deepEqual(await store.write([remove('a', undefined, t)]), [])
      assert.equal((await store.write([put({ id: 'a' }, 0, t)]))[0]?.version, 1)
    })

    it('writes all of a call or nothing', async () => {
      const t = tenant()
      await store.write([put({ id: 'a', n: 0 }, 0, t), put({ id: 'b', n: 0 }, 0, t)])
      await rejectsWith(
        'version_conflict',
        store.write([put({ id: 'a', n: 1 }, 1, t), put({ id: 'c' }, 0, t), remove('b', undefined, t), put({ id: 'b' }, 7, t)]),
      )
      assert.deepEqual(await store.list('things', t, { limit: 10 }), [
        { doc: { id: 'a', n: 0 }, version: 1 },
        { doc: { id: 'b', n: 0 }, version: 1 },
      ])
    })

    it('lets the later writes of a call see the earlier ones', async () => {
      const t = tenant()
      const rows = await store.write([put({ id: 'a', n: 1 }, 0, t), put({ id: 'a', n: 2 }, 1, t), remove('a', 2, t), put({ id: 'a', n: 3 }, 0, t)])
      assert.deepEqual(
        rows.map((row) => [row.doc['n'], row.version]),
        [
          [1, 1],
          [2, 2],
          [3, 1],
        ],
      )
      assert.deepEqual(await store.write([]), [])
    })

    it('keeps a failing call from its neighbours', async () => {
      const t = tenant()
      await store.write([put({ id: 'taken' }, 0, t)])
      const results = await Promise.allSettled([
        store.write([put({ id: 'one' }, 0, t)]),
        store.write([put({ id: 'lost' }, 0, t), put({ id: 'taken' }, 0, t)]),
        store.write([put({ id: 'two' }, 0, t)]),
      ])
      assert.deepEqual(
        results.map((result) => result.status),
        ['fulfilled', 'rejected', 'fulfilled'],
      )
      assert.deepEqual((await store.list('things', t, { limit: 10 })).map((row) => row.doc.id).sort(), ['one', 'taken', 'two'])
    })

    it('lets exactly one of many racers win, and loses no increment', async () => {
      const t = tenant()
      const created = await Promise.allSettled(Array.from({ length: 50 }, (_, n) => store.write([put({ id: 'a', n: 0, by: n }, 0, t)])))
      assert.equal(created.filter((result) => result.status === 'fulfilled').length, 1)
      const increment = async (): Promise<void> => {
        for (;;) {
          const row = await store.get('things', t, 'a')
          assert.ok(row !== undefined)
          try {
            await store.write([put({ ...row.doc, n: Number(row.doc['n']) + 1 }, row.version, t)])
            return
          } catch (thrown) {
            assert.ok(thrown instanceof KymoError && thrown.code === 'version_conflict')
          }
        }
      }
      await Promise.all(Array.from({ length: 20 }, increment))
      const row = await store.get('things', t, 'a')
      assert.equal(row?.doc['n'], 20)
      assert.equal(row?.version, 21)
    })

    it('lists by id in the order of UTF-8 bytes, page by page', async () => {
      const t = tenant()
      const ids = [
        'b',
        'a',
        'B',
        'ä',
        'z',
        'Z',
        '10',
        '9',
        '\uffee',
        '😀',
        'a b',
        "o'clock",
        '"quoted"',
        '%',
        '_',
        'device/1',
        '日本',
        'e\u0301',
        'é',
      ]
      await store.write(ids.map((id) => put({ id }, 0, t)))
      const seen: string[] = []
      for (let after: string | undefined; ;) {
        const page = await store.list('things', t, { limit: 4, ...(after === undefined ? {} : { after }) })
        seen.push(...page.map((row) => row.doc.id))
        after = page.at(-1)?.doc.id
        if (page.length < 4) break
      }
      assert.deepEqual(seen, ids.toSorted(byUtf8))
      assert.equal(await store.count('things', t), ids.length)
      assert.deepEqual(await store.list('things', t, { limit: 10, after: '😀' }), [])
      for (const id of ids) assert.equal((await store.get('things', t, id))?.doc.id, id)
    })

    it('compares fields for equality, by type and value', async () => {
      const t = tenant()
      const docs = [
        { id: '1', kind: 'x', n: 1, on: true },
        { id: '2', kind: 'x', n: 2, on: false },
        { id: '3', kind: 'y', n: 1, on: 1 },
        { id: '4', kind: "x' OR 1=1 --", n: '1', on: 'true' },
        { id: '5', 'a.b': 'dotted', 'q"uote': 'q', a: { b: 'nested' }, $: 'root', __proto: 1 },
        { id: '6', kind: null, n: 1.5 },
      ]
      await store.write(docs.map((doc) => put(doc, 0, t)))
      const ids = async (where: Record<string, string | number | boolean>): Promise<string[]> =>
        (await store.list('things', t, { limit: 10, where })).map((row) => row.doc.id)
      assert.deepEqual(await ids({ kind: 'x' }), ['1', '2'])
      assert.deepEqual(await ids({ kind: 'x', n: 2 }), ['2'])
      assert.deepEqual(await ids({ n: 1 }), ['1', '3'])
      assert.deepEqual(await ids({ n: '1' }), ['4'])
      assert.deepEqual(await ids({ n: 1.5 }), ['6'])
      assert.deepEqual(await ids({ on: true }), ['1'])
      assert.deepEqual(await ids({ on: 1 }), ['3'])
      assert.deepEqual(await ids({ on: 'true' }), ['4'])
      assert.deepEqual(await ids({ on: false }), ['2'])
      assert.deepEqual(await ids({ kind: "x' OR 1=1 --" }), ['4'])
      assert.deepEqual(await ids({ 'a.b': 'dotted' }), ['5'])
      assert.deepEqual(await ids({ 'q"uote': 'q' }), ['5'])
      assert.deepEqual(await ids({ $: 'root' }), ['5'])
      assert.deepEqual(await ids({ b: 'nested' }), [])
      assert.deepEqual(await ids({ id: '3' }), ['3'])
      assert.deepEqual(await ids({ absent: '' }), [])
      assert.deepEqual(
        (await store.list('things', t, { limit: 1, after: '1', where: { n: 1 } })).map((row) => row.doc.id),
        ['3'],
      )
    })

    it('keeps tenants and collections apart', async () => {
      const [one, two] = [tenant(), tenant()]
      await store.write([
        put({ id: 'a', of: 'one' }, 0, one),
        put({ id: 'a', of: 'two' }, 0, two),
        put({ id: 'a', of: 'other' }, 0, one, 'other-things'),
      ])
      assert.deepEqual((await store.get('things', one, 'a'))?.doc['of'], 'one')
      assert.deepEqual((await store.get('things', two, 'a'))?.doc['of'], 'two')
      assert.deepEqual((await store.get('other-things', one, 'a'))?.doc['of'], 'other')
      await store.write([remove('a', 1, one)])
      assert.equal(await store.count('things', one), 0)
      assert.equal(await store.count('things', two), 1)
      assert.equal(await store.count('other-things', one), 1)
      assert.deepEqual(await store.list('things', one, { limit: 5 }), [])
    })

    it('gives back any JSON that was put', async () => {
      const t = tenant()
      await fc.assert(
        fc.asyncProperty(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), async (fields) => {
          const doc = JSON.parse(JSON.stringify({ ...fields, id: 'any' })) as MetaDocument
          const written = await store.write([put(doc, undefined, t)])
          assert.deepEqual(written[0]?.doc, doc)
          assert.deepEqual((await store.get('things', t, 'any'))?.doc, doc)
        }),
        fuzzRuns(50),
      )
    })

    it('refuses what no adapter could hold', async () => {
      const t = tenant()
      for (const id of ['', 'a\u0000b', 'a\nb', '\ud800', 'x'.repeat(513)]) await rejectsWith('request_invalid', store.write([put({ id }, 0, t)]))
      await rejectsWith('request_invalid', store.write([put({ id: 'ok' }, 0, t, 'Things; DROP TABLE')]))
      await rejectsWith('request_invalid', store.write([put({ id: 'ok', big: 'x'.repeat(3 * 1024 * 1024) }, 0, t)]))
      await rejectsWith('request_invalid', store.list('things', t, { limit: 0 }))
      assert.equal(await store.count('things', t), 0)
    })

    it('lists many documents in one answer', async () => {
      const t = tenant()
      const text = 'ä'.repeat(2_000)
      const ids = Array.from({ length: 3_000 }, (_, n) => String(n).padStart(5, '0'))
      for (let n = 0; n < ids.length; n += 1_000) await store.write(ids.slice(n, n + 1_000).map((id) => put({ id, text }, 0, t)))
      const rows = await store.list('things', t, { limit: 10_000 })
      assert.deepEqual(
        rows.map((row) => row.doc.id),
        ids,
      )
      assert.ok(rows.every((row) => row.doc['text'] === text))
    })

    it('has everything after it was closed and opened again, and refuses once closed', async () => {
      const t = tenant()
      await store.write([put({ id: 'kept', n: 7 }, 0, t)])
      const pending = store.write([put({ id: 'last' }, 0, t)])
      await store.close()
      await pending
      await rejectsWith('shutting_down', store.write([put({ id: 'late' }, 0, t)]))
      await rejectsWith('shutting_down', store.get('things', t, 'kept'))
      store = await module.open(location)
      assert.deepEqual(
        (await store.list('things', t, { limit: 5 })).map((row) => row.doc.id),
        ['kept', 'last'],
      )
    })

    it('has every write that was told durable after the writer was killed, and none in half', async () => {
      const created = await subject.create()
      const told = await writeUntilKilled(subject.module, created.location, 60)
      assert.ok(told.length >= 60)
      const survivor = await module.open(created.location)
      try {
        for (const id of told) assert.ok((await survivor.get('pairs', 'left', id)) !== undefined, `${id} was told durable and is lost`)
        const left = (await survivor.list('pairs', 'left', { limit: 10_000 })).map((row) => row.doc.id)
        const right = (await survivor.list('pairs', 'right', { limit: 10_000 })).map((row) => row.doc.id)
        assert.deepEqual(left, right)
      } finally {
        await survivor.close()
        await created.remove()
      }
    })
  })
}

/** Starts a writer in a child process, kills it with SIGKILL after `enough` answers; returns the ids that it was told are durable. */
async function writeUntilKilled(module: URL, location: string, enough: number): Promise<string[]> {
  const script = new URL('./meta-store-writer.ts', import.meta.url)
  const child = spawn(process.execPath, [script.pathname, module.href, location], { stdio: ['ignore', 'pipe', 'inherit'] })
  const told: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    told.push(line)
    if (told.length === enough) child.kill('SIGKILL')
  }
  return told
}
