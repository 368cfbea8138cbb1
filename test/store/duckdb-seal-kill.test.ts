import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import readline from 'node:readline'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { RangeQuery, Store } from '../../src/core/ports.ts'
import { openDuckdbStore } from '../../src/store/duckdb/store.ts'
import { killCount } from '../support/effort.ts'
import { checkFolder, envAt } from '../support/kept-store.ts'
import { killsInFolders } from '../support/kills.ts'
import { sealTimeUs, sealTotals } from '../support/loop-rows.ts'
import { answer, answerInPages } from '../support/store-batches.ts'

const kills = killCount(15)
const perFolder = 25
/** Kills after which a folder is still read in one answer: one statement over all of it does not always fit into the 128 MB. */
const wholeUpTo = 10
const promise = 'a process that is killed while it commits, seals and merges leaves each acknowledged reading behind once, and no file'

test(promise, { timeout: 60_000 + kills * 60_000 }, async (t) => {
  let sealed = 0
  let commits = 0
  let last = 0
  await killsInFolders({ kills, perFolder, name: 'kymo-seal-kill-' }, async ({ dir, round, inFolder }) => {
    if (inFolder === 0) last = 0
    const before = last
    // From within the first sealing to several rounds on.
    const afterMs = 20 + Math.floor(Math.random() * 1500)
    const killed = await killAfter(dir, afterMs)
    sealed += killed.sealed
    const what = `round ${round}, killed after ${afterMs} ms`
    // A server may be started again before the child has heard that it is alone; and afterwards.
    if (round % 2 === 0) await ended(killed.group)
    last = await holdsAll(dir, Math.max(last, killed.acknowledged), what, round % 2 === 0, inFolder < wholeUpTo)
    commits += last - before
    await ended(killed.group)
    await (await openDuckdbStore({ dir, env: envAt(() => sealTimeUs(last)), memoryLimitMb: 128 })).close()
    checkFolder(dir, what)
    if (inFolder === perFolder - 1 || round === kills - 1) t.diagnostic(`after round ${round}: ${fs.readdirSync(path.join(dir, 'sealed')).join(' ')}`)
  })
  t.diagnostic(`${kills} kills, ${commits} commits, ${sealed} rounds of sealing`)
  assert.ok(sealed > 0, 'nothing was sealed')
})

/** Opens the store and reads all of it, in one answer (`whole`) or in pages; returns its offset. */
async function holdsAll(dir: string, acknowledged: number, what: string, alone: boolean, whole: boolean): Promise<number> {
  let next = acknowledged
  const read = whole ? (from: Store, query: Partial<RangeQuery>) => answer(from, { limit: 10_000_000, ...query }) : answerInPages
  const store = await openDuckdbStore({ dir, env: envAt(() => sealTimeUs(next)), memoryLimitMb: 128, sealBytes: 300_000, attachedMax: 4 })
  try {
    if (alone) checkFolder(dir, what)
    next = Number((await store.resume('log-1', 'telemetry', 0))?.next ?? 0)
    assert.ok(next >= acknowledged, `${what}: ${acknowledged} was acknowledged, and the store is at ${next}`)
    const { count, sum } = sealTotals(next)
    for (const stage of ['opened', 'sealed']) {
      if (stage === 'sealed') await store.seal()
      const rows = await read(store, {})
      assert.equal(rows.length, count, `${what}, ${stage}`)
      assert.equal(new Set(rows.map((row) => `${row.device} ${row.timeUs}`)).size, count, `${what}, ${stage}`)
      assert.equal(
        rows.reduce((all, row) => all + Number(row['value']), 0),
        sum,
        `${what}, ${stage}`,
      )
      for (const stepUs of [60e6, 3600e6]) {
        const buckets = await read(store, { stepUs, aggregations: ['count', 'sum'] })
        const total = (name: string): number => buckets.reduce((all, row) => all + Number(row[name]), 0)
        assert.deepEqual([total('count'), total('sum')], [count, sum], `${what}, ${stage}, step ${stepUs}`)
      }
    }
    return next
  } finally {
    await store.close()
  }
}

interface Killed {
  readonly acknowledged: number
  /** Rounds of sealing that were done. */
  readonly sealed: number
  /** Of its processes. */
  readonly group: number
}

/** Runs the loop for so long after its first commit, then kills it, and not its child. */
async function killAfter(dir: string, ms: number): Promise<Killed> {
  const program = path.join(import.meta.dirname, 'seal-loop.ts')
  const child = spawn(process.execPath, [program, dir], { stdio: ['ignore', 'pipe', 'inherit'], detached: true })
  const gone = once(child, 'exit')
  let acknowledged = 0
  let sealed = 0
  let begun = false
  for await (const line of readline.createInterface({ input: child.stdout })) {
    if (line === 'sealed') sealed++
    else acknowledged = Number(line)
    if (!begun && acknowledged > 0) void delay(ms).then(() => child.kill('SIGKILL'))
    begun ||= acknowledged > 0
  }
  const [, how] = (await gone) as [number | null, string | null]
  assert.equal(how, 'SIGKILL')
  return { acknowledged, sealed, group: child.pid! }
}

/** Resolves when no process of the group is left: the child that seals ends with the one that asked. */
async function ended(group: number): Promise<void> {
  for (const until = performance.now() + 10_000; ; await delay(5)) {
    try {
      process.kill(-group, 0)
    } catch {
      return
    }
    assert.ok(performance.now() < until, 'the process that seals outlives its server')
  }
}
