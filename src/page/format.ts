/** What times are shown in. */
export type Zone = 'local' | 'utc'

const digits = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const sixDigits = new Intl.NumberFormat('en', { maximumSignificantDigits: 6 })

/** 12,345; 0.42; 18.3: three figures where it is small, none behind the point where it is large. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (value === 0) return '0'
  const size = Math.abs(value)
  if (size >= 1e9) return `${(value / 1e9).toFixed(size >= 1e10 ? 1 : 2)} G`
  if (size >= 1e6) return `${(value / 1e6).toFixed(size >= 1e7 ? 1 : 2)} M`
  if (size >= 100) return digits.format(value)
  return size >= 10 ? value.toFixed(1).replace(/\.0$/, '') : value.toFixed(2).replace(/\.?0+$/, '')
}

/** A reading as it was sent, without the noise of binary fractions. */
export function reading(value: number | boolean | string | null): string {
  if (value === null) return '–'
  if (typeof value !== 'number') return String(value)
  const size = Math.abs(value)
  if (value !== 0 && (size >= 1e9 || size < 1e-4)) return value.toExponential(3)
  return Number.isInteger(value) ? digits.format(value) : sixDigits.format(value)
}

export function bytes(value: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let unit = 0
  let size = value
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000
    unit++
  }
  return `${unit === 0 || size >= 100 ? size.toFixed(0) : size.toFixed(1)} ${units[unit] ?? ''}`
}

/** 240 ms, 1.4 s, 12 min, 3 h, 5 d. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`
  return ms < 48 * 3_600_000 ? `${Math.round(ms / 3_600_000)} h` : `${Math.round(ms / 86_400_000)} d`
}

/** `ms` is the age; what is of the future (a clock ahead) says so. */
export function ago(ms: number): string {
  if (ms < -2_000) return `in ${duration(-ms)}`
  return ms < 1_500 ? 'just now' : `${duration(Math.max(1_000, ms)).replace(/\.\d/, '')} ago`
}

const zoned = new Map<string, Intl.DateTimeFormat>()

function formatterOf(zone: Zone, fraction: boolean): Intl.DateTimeFormat {
  const key = `${zone} ${fraction}`
  let made = zoned.get(key)
  if (made === undefined) {
    made = new Intl.DateTimeFormat('sv-SE', {
      dateStyle: undefined,
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      second: '2-digit',
      ...(fraction ? { fractionalSecondDigits: 3 } : {}),
      ...(zone === 'utc' ? { timeZone: 'UTC' } : {}),
    })
    zoned.set(key, made)
  }
  return made
}

/** 2026-11-21 12:04:09, in the zone that was chosen; with milliseconds where they say something. */
export function moment(ms: number, zone: Zone): string {
  return (
    formatterOf(zone, ms % 1000 !== 0)
      .format(ms)
      .replace(',', '.') + (zone === 'utc' ? ' UTC' : '')
  )
}

export const localZone = Intl.DateTimeFormat().resolvedOptions().timeZone

/** What a reader could not see, or what would turn the text around (Unicode TR 9), is written as its code. */
// oxlint-disable-next-line no-misleading-character-class
const unseen = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g

export function visible(text: string): string {
  return text.replaceAll(unseen, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** At most so many characters of it, an ellipsis among them where there are more. */
export function clipped(text: string, charsMax: number): string {
  const shown = visible(text)
  if (shown.length <= charsMax) return shown
  return `${shown
    .slice(0, charsMax - 1)
    .toWellFormed()
    .replace(/\uFFFD$/, '')
    .trimEnd()}…`
}

/** As `hexdump -C`: offset, 16 bytes, and what of them is ASCII. */
export function hexDump(data: Uint8Array, bytesMax: number): string {
  const lines: string[] = []
  for (let at = 0; at < Math.min(data.length, bytesMax); at += 16) {
    const row = data.subarray(at, Math.min(at + 16, bytesMax))
    const hex = Array.from({ length: 16 }, (_, i) => (i < row.length ? row[i]!.toString(16).padStart(2, '0') : '  '))
    const text = Array.from(row, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('')
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hex.slice(0, 8).join(' ')}  ${hex.slice(8).join(' ')}  |${text}|`)
  }
  if (data.length > bytesMax) lines.push(`… ${data.length - bytesMax} bytes more`)
  return lines.join('\n')
}
