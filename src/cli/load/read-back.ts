import { setTimeout as delay } from 'node:timers/promises'
import type { Api, ColumnsAnswer } from '../api.ts'
import type { Ledger, Schedule } from './ledger.ts'
import { deviceOf, timeUsOf } from './ledger.ts'

/** Devices of one query: their names must fit into a request line. */
const devicesPerQuery = 50
const rowsPerPage = 50_000
const retryMs = 250

/** Asks the server for everything that the run's devices have, page by page, and enters it in the ledger. */
export async function readBack(api: Api, schedule: Schedule, ledger: Ledger, onRows: (rows: number) => void): Promise<void> {
  ledger.forgetFound()
  let rows = 0
  for (let d = 0; d < schedule.devices; d += devicesPerQuery) {
    const device = Array.from({ length: Math.min(devicesPerQuery, schedule.devices - d) }, (_, i) => deviceOf(schedule, d + i))
    const from = Math.floor(schedule.startUs / 1_000) - 1
    const to = Math.ceil(timeUsOf(schedule, schedule.messages) / 1_000) + 1
    let cursor: string | undefined
    do {
      const page: ColumnsAnswer = await api.json('/api/v1/query', {
        device,
        metric: 'temperature',
        from,
        to,
        order: 'asc',
        limit: rowsPerPage,
        cursor,
      })
      enter(page, ledger)
      rows += page.rows
      onRows(rows)
      cursor = page.next_cursor ?? undefined
    } while (cursor !== undefined)
  }
}

function enter(page: ColumnsAnswer, ledger: Ledger): void {
  const { time, series, value = [] } = page.columns
  for (let row = 0; row < time.length; row++) {
    const key = page.series[series[row] ?? -1]
    const found = value[row]
    if (key !== undefined) ledger.found(key.device, Math.round((time[row] ?? Number.NaN) * 1_000), typeof found === 'number' ? found : Number.NaN)
  }
}

/** Reads back until nothing acknowledged is missing, or `settleMs` have passed: the store may be a moment behind the log. */
export async function readBackSettled(
  api: Api,
  schedule: Schedule,
  ledger: Ledger,
  o: { readonly settleMs: number; readonly onRows: (rows: number) => void },
): Promise<void> {
  const untilMs = performance.now() + o.settleMs
  for (;;) {
    await readBack(api, schedule, ledger, o.onRows)
    if (ledger.result().lost === 0 || performance.now() >= untilMs) return
    await delay(retryMs)
  }
}
