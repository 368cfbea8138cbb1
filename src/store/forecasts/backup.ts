import { backupSqlite } from '../sqlite/file.ts'
import { forecastsFile } from './schema.ts'

/** Copies the forecasts file at `from` to `to` as it is at one moment, beside whoever writes it. Rejects with `forecasts_corrupt` when it is not sound. */
export function backupForecasts(from: string, to: string): Promise<void> {
  return backupSqlite(from, to, forecastsFile)
}
