import fs from 'node:fs'
import path from 'node:path'
import type { NabWindow } from '../../compute/anomaly/nab.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { parseCsv } from '../../wire/table/csv.ts'
import { timeReader } from '../../wire/table/time-format.ts'
import { readColumns } from '../models/table.ts'

export interface NabFile {
  /** As labels name it: `realTraffic/speed_6005.csv`. */
  readonly name: string
  readonly category: string
  readonly timesUs: Float64Array
  readonly values: Float64Array
  readonly windows: readonly NabWindow[]
}

export interface NabCorpus {
  readonly files: readonly NabFile[]
  /** Files that no label names: not scored. */
  readonly unlabelled: readonly string[]
  /** Files that labels name and that are not there. */
  readonly absent: readonly string[]
}

interface Labels {
  readonly file: string
  readonly windows: ReadonlyMap<string, readonly (readonly [string, string])[]>
  /** Labels as rows name only files with windows: the others have none. */
  readonly isComplete: boolean
}

/**
 * The corpus in a directory, as NAB has it (labels/combined_windows.json, data/<category>/<name>.csv) or flat (combined_windows.json or windows.csv
 * beside the categories); files may be packed (.csv.gz). Throws usage for whatever is missing or no label.
 */
export async function readCorpus(folder: string): Promise<NabCorpus> {
  const labels = readLabels(folder)
  const data = isFolder(path.join(folder, 'data')) ? path.join(folder, 'data') : folder
  const found = new Map<string, string>()
  for (const category of listed(data).filter((name) => isFolder(path.join(data, name)))) {
    for (const name of listed(path.join(data, category))) {
      const bare = name.replace(/\.gz$/, '')
      if (bare.endsWith('.csv')) found.set(`${category}/${bare}`, path.join(data, category, name))
    }
  }
  const named = (name: string): boolean => labels.isComplete || labels.windows.has(name)
  const names = [...found.keys()].filter(named).toSorted()
  if (names.length === 0) throw usage(`${folder}: no <category>/<name>.csv that ${path.basename(labels.file)} names`)
  const files: NabFile[] = []
  for (const name of names) files.push(await readFile(found.get(name)!, name, labels))
  return {
    files,
    unlabelled: [...found.keys()].filter((name) => !named(name)).toSorted(),
    absent: [...labels.windows.keys()].filter((name) => !found.has(name)).toSorted(),
  }
}

function readLabels(folder: string): Labels {
  const places = [path.join(folder, 'labels', 'combined_windows.json'), path.join(folder, 'combined_windows.json')]
  const json = places.find((file) => fs.existsSync(file))
  if (json !== undefined) return { file: json, windows: labelsOfJson(json), isComplete: false }
  const rows = [path.join(folder, 'windows.csv'), path.join(folder, 'labels', 'windows.csv')].find((file) => fs.existsSync(file))
  if (rows !== undefined) return { file: rows, windows: labelsOfRows(rows), isComplete: true }
  throw usage(`${folder}: neither labels/combined_windows.json, nor combined_windows.json, nor windows.csv is there`)
}

function labelsOfJson(file: string): Labels['windows'] {
  let parsed: unknown
  try {
    parsed = JSON.parse(fs.readFileSync(file, 'utf8'))
  } catch (thrown) {
    throw usage(`${file} is no JSON: ${asKymoError(thrown).message}`)
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw usage(`${file}: an object of file names is expected`)
  const isPair = (pair: unknown): pair is [string, string] => Array.isArray(pair) && pair.length === 2 && pair.every((end) => typeof end === 'string')
  return new Map(
    Object.entries(parsed).map(([name, windows]: [string, unknown]) => {
      if (!Array.isArray(windows) || !windows.every(isPair)) throw usage(`${file}: windows of ${name} are not a list of [start, end]`)
      return [name, windows]
    }),
  )
}

function labelsOfRows(file: string): Labels['windows'] {
  const [header, ...rows] = parseCsv(fs.readFileSync(file, 'utf8'), ',', 1)
  if (header?.cells.map((cell) => cell.trim()).join(',') !== 'file,window_start,window_end')
    throw usage(`${file}: the header should be file,window_start,window_end`)
  const windows = new Map<string, [string, string][]>()
  for (const { cells, line } of rows) {
    const [name, start, end] = cells.map((cell) => cell.trim())
    if (name === undefined || start === undefined || end === undefined) throw usage(`${file}, line ${line}: three cells are expected`)
    windows.set(name, [...(windows.get(name) ?? []), [start, end]])
  }
  return windows
}

async function readFile(file: string, name: string, labels: Labels): Promise<NabFile> {
  const columns = await readColumns(file, { timeColumn: 'timestamp', columns: ['value'] }).catch((thrown: unknown) => {
    throw usage(`${name}: ${asKymoError(thrown).message}`)
  })
  const { timesUs, values } = columns[0]!.readings
  const read = timeReader('auto', 'UTC')!
  const windows = (labels.windows.get(name) ?? []).map(([start, end]) => {
    const [startUs, endUs] = [read(start, name), read(end, name)]
    const from = timesUs.findIndex((us) => us >= startUs)
    const to = timesUs.findLastIndex((us) => us <= endUs)
    if (from < 0 || to < from) throw usage(`${name}: no row lies in the window from ${start} to ${end}`)
    return { from, to }
  })
  return { name, category: name.slice(0, name.indexOf('/')), timesUs, values, windows: windows.toSorted((a, b) => a.from - b.from) }
}

function listed(folder: string): string[] {
  try {
    return fs.readdirSync(folder).toSorted()
  } catch (thrown) {
    throw usage(`${folder} cannot be read: ${asKymoError(thrown).message}`)
  }
}

function isFolder(at: string): boolean {
  return fs.statSync(at, { throwIfNoEntry: false })?.isDirectory() === true
}

function usage(detail: string): KymoError {
  return new KymoError('usage', { detail, facts: { command: 'kymo anomalies score' } })
}
