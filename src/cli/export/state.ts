import fs from 'node:fs'
import { KymoError } from '../../core/errors.ts'
import { writeWhole } from '../import/state.ts'

/**
 * What an incremental load has: every reading with a time before `to` that the server had then. One that arrives later with a time before
 * `to` is found by the next load only as far as its `--overlap` reaches back.
 */
export interface ExportState {
  readonly kymo_export: 1
  readonly server: string
  /** Devices and metrics that were asked for. */
  readonly question: string
  /** RFC 3339. */
  readonly to: string
}

export function readExportState(file: string): ExportState | undefined {
  let text: string
  try {
    text = fs.readFileSync(file, 'utf8')
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return undefined
    throw thrown
  }
  try {
    const state: unknown = JSON.parse(text)
    if (isState(state)) return state
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  throw new KymoError('usage', { detail: `${file} is not the state of an export`, facts: { command: 'kymo export' } })
}

function isState(value: unknown): value is ExportState {
  return (
    typeof value === 'object' && value !== null && 'kymo_export' in value && value.kymo_export === 1 && 'to' in value && typeof value.to === 'string'
  )
}

export function writeExportState(file: string, state: ExportState): void {
  writeWhole(file, JSON.stringify(state) + '\n')
}
