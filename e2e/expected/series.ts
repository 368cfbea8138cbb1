/**
 * What the two public series say, computed from their files and from nothing of src/: the end-to-end tests compare the
 * product's answers with it. As a command: `node e2e/expected/series.ts intel|airquality` prints the figures as JSON.
 */
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { gunzipSync } from 'node:zlib'

export interface Row {
  readonly device: string
  readonly timeMs: number
  /** Only what is there: a missing value is no key. */
  readonly values: Readonly<Record<string, number>>
}

const root = path.resolve(import.meta.dirname, '../..')

/** Series that the repository may not carry: beside the checkout, or where KYMO_TEST_DATA says. */
export const sharedData = process.env['KYMO_TEST_DATA'] ?? path.resolve(root, '../shared/data')
const intelFile = path.join(sharedData, 'intel/intel_lab_30min.csv')
export const intelIsThere = existsSync(intelFile)

function cells(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => line.trim().split(','))
}

/** 40 motes, one reading of temperature and humidity each half hour; step 0 is 2004-03-01T00:00Z. */
export function intelRows(): Row[] {
  const [head, ...body] = cells(readFileSync(intelFile, 'utf8'))
  const at = (name: string): number => head!.indexOf(name)
  const [sensor, step, temperature, humidity] = [at('sensor'), at('step_30min'), at('temperature_c'), at('humidity_pct')]
  return body.map((row) => ({
    device: `mote-${row[sensor]}`,
    timeMs: Date.UTC(2004, 2, 1) + Number(row[step]) * 30 * 60_000,
    values: { temperature: Number(row[temperature]), humidity: Number(row[humidity]) },
  }))
}

/** 13 columns an hour; -200 means missing. Times have no zone: UTC. */
export function airQualityRows(): Row[] {
  const file = path.join(root, 'test/data/airquality/AirQualityUCI_hourly.csv.gz')
  const [head, ...body] = cells(gunzipSync(readFileSync(file)).toString('utf8'))
  return body.map((row) => {
    const [, year, month, day, hour, minute] = /^(\d+)\/(\d+)\/(\d+) (\d+):(\d+)$/.exec(row[0]!)!.map(Number)
    const values: Record<string, number> = {}
    for (let i = 1; i < head!.length; i++) if (Number(row[i]) !== -200) values[head![i]!] = Number(row[i])
    return { device: 'roadside', timeMs: Date.UTC(year!, month! - 1, day, hour, minute), values }
  })
}

export interface Figures {
  readonly count: number
  readonly min: number
  readonly max: number
  readonly mean: number
  readonly first: readonly [timeMs: number, value: number]
  readonly last: readonly [timeMs: number, value: number]
}

export interface SeriesFigures extends Figures {
  /** Start of each hour that has readings, to its figures. */
  readonly hours: ReadonlyMap<number, Figures>
  readonly points: ReadonlyMap<number, number>
}

function figuresOf(points: readonly (readonly [number, number])[]): Figures {
  let min = Infinity
  let max = -Infinity
  // Kahan's sum: the mean of 9,000 values to the last digits.
  let sum = 0
  let lost = 0
  for (const [, value] of points) {
    min = Math.min(min, value)
    max = Math.max(max, value)
    const next = value - lost
    const total = sum + next
    lost = total - sum - next
    sum = total
  }
  return { count: points.length, min, max, mean: sum / points.length, first: points[0]!, last: points.at(-1)! }
}

/** Per `device/metric`. */
export function expected(rows: readonly Row[]): Map<string, SeriesFigures> {
  const series = new Map<string, [number, number][]>()
  for (const row of rows) {
    for (const [metric, value] of Object.entries(row.values)) {
      const key = `${row.device}/${metric}`
      const points = series.get(key) ?? []
      points.push([row.timeMs, value])
      series.set(key, points)
    }
  }
  const out = new Map<string, SeriesFigures>()
  for (const [key, points] of series) {
    points.sort((a, b) => a[0] - b[0])
    const byHour = Map.groupBy(points, ([time]) => Math.floor(time / 3_600_000) * 3_600_000)
    const hours = new Map([...byHour].map(([hour, inside]) => [hour, figuresOf(inside)] as const))
    out.set(key, { ...figuresOf(points), hours, points: new Map(points) })
  }
  return out
}

if (import.meta.main) {
  const rows = process.argv[2] === 'intel' ? intelRows() : process.argv[2] === 'airquality' ? airQualityRows() : undefined
  if (rows === undefined) {
    process.stderr.write('usage: node e2e/expected/series.ts intel|airquality\n')
    process.exit(2)
  }
  for (const [key, { hours, points: _points, ...figures }] of expected(rows)) {
    process.stdout.write(`${JSON.stringify({ series: key, ...figures, hours: hours.size })}\n`)
  }
}
