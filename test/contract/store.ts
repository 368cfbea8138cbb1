import { describe, it } from 'node:test'
import { buckets } from './store/buckets.ts'
import { calendars } from './store/calendars.ts'
import { heads } from './store/heads.ts'
import { lateRows } from './store/late-rows.ts'
import { quantilesAndGaps } from './store/quantiles.ts'
import { rows } from './store/rows.ts'
import type { StoreSubject, Using } from './store/shared.ts'
import { spans } from './store/spans.ts'

/** What every adapter of the Store port keeps to. */
export function storeContract(name: string, subject: StoreSubject): void {
  const using: Using = (what, run) => {
    void it(what, async () => {
      const store = await subject.open()
      let last = store
      try {
        last = (await run(store)) ?? store
      } finally {
        await subject.remove(last)
      }
    })
  }
  void describe(`${name} keeps the Store contract`, () => {
    spans(using, subject)
    rows(using)
    buckets(using, subject)
    calendars(using)
    quantilesAndGaps(using)
    lateRows(using, subject)
    heads(using, subject)
  })
}
