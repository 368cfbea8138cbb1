import process from 'node:process'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { Store } from '../../src/core/ports.ts'
import { openPostgresStore, type PostgresStore } from '../../src/store/postgres/store.ts'
import { modelRuns } from '../support/effort.ts'
import { newSchema } from '../support/postgres-stores.ts'
import { Pair, steps, type PairSubject } from '../support/store-pair.ts'

const url = process.env['KYMO_TEST_POSTGRES_URL']
const layout = fc.record({ dense: fc.integer({ min: 1, max: 3 }), columns: fc.constantFrom(0, 1, 2, 4, 5, 7) })
/** Of each commit: the process and, doubled, the partition. */
const turns = fc.array(fc.nat(3), { minLength: 1, maxLength: 9 })
const skip = url === undefined ? { skip: 'KYMO_TEST_POSTGRES_URL is not set (npm run test:services)' } : {}

interface Layout {
  readonly dense: number
  readonly columns: number
}

/**
 * Two processes have the database open, and commits go now through the one, now through the other, for now one and now the other of two partitions:
 * each
 * remembers series that others have written since. `dense`: readings that make a minute worth keeping; the generator makes few. `columns`: how many
 * metrics
 * of a device share its rows.
 */
function subject(address: string, { dense, columns }: Layout, turns: readonly number[]): PairSubject {
  const place = newSchema(address)
  const offsets = new Map<string, bigint>()
  let stores: readonly PostgresStore[] = []
  let commits = 0
  const opened = async (): Promise<Store> => {
    const one = (): Promise<PostgresStore> =>
      openPostgresStore({ url: place.location, env: nodeEnv(silentLogger), keepMinutes: { dense, sparse: 1, minutes: 2 }, columns })
    stores = [await one(), await one()]
    const [reader] = stores
    return {
      commit: async (c, signal) => {
        const turn = turns[commits++ % turns.length]!
        const partition = turn >> 1
        const name = `${c.span.log} ${partition}`
        const first = offsets.get(name) ?? 0n
        await stores[turn & 1]!.commit({ ...c, span: { ...c.span, partition, first, next: first + 1n } }, signal)
        offsets.set(name, first + 1n)
      },
      resume: reader!.resume.bind(reader),
      query: reader!.query.bind(reader),
      latest: reader!.latest.bind(reader),
      series: reader!.series.bind(reader),
      close: async () => void (await Promise.all(stores.map((store) => store.close()))),
    }
  }
  return {
    open: opened,
    again: async (store) => {
      await store.close()
      return opened()
    },
    seal: () => Promise.resolve(),
    remove: async (store) => {
      await store.close()
      await place.remove()
    },
  }
}

void describe('The PostgreSQL store beside its model', skip, () => {
  void it('answers as the model does, whatever is committed and asked, and whoever of two commits', async () => {
    await fc.assert(
      fc.asyncProperty(steps, layout, turns, async (list, how, some) => {
        const pair = await Pair.open(subject(url ?? '', how, some))
        await pair.run(list)
      }),
      modelRuns(8),
    )
  })
})
