/** `150,000`, without Intl: its data costs a small process megabytes. */
export function count(value: number): string {
  const rounded = Math.round(value)
  if (!Number.isFinite(rounded)) return '-'
  const digits = String(Math.abs(rounded)).replace(/\B(?=(\d{3})+$)/g, ',')
  return rounded < 0 ? `-${digits}` : digits
}

/** `312ms`, `1.4s`, `0.3ms`: three digits that matter. */
export function milliseconds(ms: number): string {
  if (!Number.isFinite(ms)) return '-'
  if (ms >= 60_000) return `${Math.floor(ms / 60_000)}m${String(Math.round((ms % 60_000) / 1000)).padStart(2, '0')}s`
  if (ms >= 1_000) return `${(ms / 1_000).toFixed(ms >= 10_000 ? 0 : 1)}s`
  return ms >= 10 ? `${Math.round(ms)}ms` : `${ms.toFixed(1)}ms`
}

export function bytes(value: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let unit = 0
  let rest = value
  while (rest >= 1_000 && unit < units.length - 1) {
    rest /= 1_000
    unit++
  }
  return `${unit === 0 || rest >= 100 ? Math.round(rest) : rest.toFixed(1)} ${units[unit]}`
}

/** `25.5`, `1013.25`, `7.3e-9`: a value as a person reads it; NaN as a dash. */
export function value(v: number | string | boolean | null | undefined): string {
  if (v === null || v === undefined) return '-'
  if (typeof v !== 'number') return String(v)
  if (!Number.isFinite(v)) return '-'
  return String(Number(v.toPrecision(9)))
}

const zones = new Map<string, Intl.DateTimeFormat>()

/** `2026-11-20 12:04:09.250` in the zone; UTC as RFC 3339 with Z. */
export function time(ms: number, zone?: string): string {
  if (!Number.isFinite(ms) || Math.abs(ms) > 8.64e15) return '-'
  if (zone === undefined || zone === 'UTC') return new Date(ms).toISOString()
  let format = zones.get(zone)
  if (format === undefined) {
    format = new Intl.DateTimeFormat('sv-SE', { timeZone: zone, dateStyle: 'short', timeStyle: 'medium' })
    zones.set(zone, format)
  }
  return `${format.format(ms)}.${String(Math.floor(((ms % 1000) + 1000) % 1000)).padStart(3, '0')}`
}

/** `12 s ago`, for people. */
export function ago(ms: number, nowMs: number): string {
  const s = Math.max(0, Math.round((nowMs - ms) / 1000))
  if (s < 60) return `${s} s ago`
  if (s < 3_600) return `${Math.floor(s / 60)} min ago`
  if (s < 172_800) return `${Math.floor(s / 3_600)} h ago`
  return `${Math.floor(s / 86_400)} days ago`
}

// What a device wrote must not steer the reader's terminal. C0, DEL and C1 controls.
const controls = /[\u0000-\u001f\u007f-\u009f]/g

export function printable(text: string): string {
  return text.replace(controls, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

export interface Column {
  readonly title: string
  readonly align?: 'right'
}

/** Aligned columns, two spaces between, no lines drawn. The last column is not padded. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  heading: (text: string) => string = (text) => text,
): string[] {
  const clean = rows.map((row) => row.map(printable))
  const widths = columns.map(({ title }, i) => clean.reduce((width, row) => Math.max(width, row[i]?.length ?? 0), title.length))
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (columns[i]?.align === 'right' ? cell.padStart(widths[i] ?? 0) : i === cells.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd()
  return [heading(line(columns.map(({ title }) => title))), ...clean.map(line)]
}
