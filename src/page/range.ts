import { hashOf } from './route.ts'
import type { Route } from './route.ts'

export const presets = ['15m', '1h', '24h', '7d', '30d'] as const
export type Preset = (typeof presets)[number]

export const presetNames: Readonly<Record<Preset, string>> = { '15m': '15 min', '1h': '1 h', '24h': '24 h', '7d': '7 d', '30d': '30 d' }

/** A time until now, or a time between two moments (epoch milliseconds). */
export type Range = { readonly preset: Preset } | { readonly from: number; readonly to: number }

export function isPreset(text: string | null): text is Preset {
  return presets.some((preset) => preset === text)
}

/** From `?range=24h` or `?from=…&to=…`; `otherwise` where the address says nothing that makes sense. */
export function rangeOf(query: URLSearchParams, otherwise: Preset = '1h'): Range {
  const [from, to] = [Number(query.get('from')), Number(query.get('to'))]
  if (Number.isFinite(from) && Number.isFinite(to) && from > 0 && to > from) return { from, to }
  const preset = query.get('range')
  return { preset: isPreset(preset) ? preset : otherwise }
}

export function rangeHash(route: Route, range: Range): string {
  const rest = Object.fromEntries([...route.query].filter(([name]) => name !== 'range' && name !== 'from' && name !== 'to'))
  const said = 'preset' in range ? { range: range.preset } : { from: String(Math.round(range.from)), to: String(Math.round(range.to)) }
  return hashOf(route.path, { ...rest, ...said })
}

/** As the API takes it. Both ends are given, so that the answer says what they were. */
export function rangeParameters(range: Range): { readonly from: string; readonly to: string } {
  if ('preset' in range) return { from: `-${range.preset}`, to: 'now' }
  return { from: new Date(range.from).toISOString(), to: new Date(range.to).toISOString() }
}

const presetMs: Readonly<Record<Preset, number>> = { '15m': 900e3, '1h': 3_600e3, '24h': 86_400e3, '7d': 7 * 86_400e3, '30d': 30 * 86_400e3 }

export function lengthMs(range: Range): number {
  return 'preset' in range ? presetMs[range.preset] : range.to - range.from
}
