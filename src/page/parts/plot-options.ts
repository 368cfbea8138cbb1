import uPlot from 'uplot'
import type { Zone } from '../format.ts'
import { reading } from '../format.ts'
import type { Palette } from '../palette.ts'

const minuteMs = 60e3
const dayMs = 1440 * minuteMs

/** 24-hour times; the date below where the day changes. */
const timeFormats: uPlot.Axis.Values = [
  [365 * dayMs, '{YYYY}', null, null, null, null, null, null, 1],
  [28 * dayMs, '{MMM}', '\n{YYYY}', null, null, null, null, null, 1],
  [dayMs, '{D} {MMM}', '\n{YYYY}', null, null, null, null, null, 1],
  [minuteMs, '{HH}:{mm}', '\n{D} {MMM}', null, '\n{D} {MMM}', null, null, null, 1],
  [1000, '{HH}:{mm}:{ss}', '\n{D} {MMM}', null, '\n{D} {MMM}', null, null, null, 1],
  [1, ':{ss}.{fff}', '\n{D} {MMM} {HH}:{mm}', null, '\n{D} {MMM} {HH}:{mm}', null, '\n{HH}:{mm}', null, 1],
]

/** A reading with neither neighbour is no line: it gets a dot, as all do where there are few. */
export function dotted(u: uPlot, series: number, show: boolean): number[] | null {
  if (show) return null
  const data = u.data[series] ?? []
  const alone: number[] = []
  const there = (i: number): boolean => typeof data[i] === 'number'
  for (let i = 0; i < data.length; i++) if (there(i) && !there(i - 1) && !there(i + 1)) alone.push(i)
  return alone
}

/** A little more than there is; of what never changes a band around it. */
export function valueRange(min: number | null, max: number | null): uPlot.Range.MinMax {
  if (min === null || max === null) return [0, 1]
  const margin = max > min ? 0 : (Math.abs(min) || 1) * 0.02
  return uPlot.rangeNum(min - margin, max + margin, 0.08, false)
}

const font = '11px system-ui, sans-serif'

/** Time below, values at the left. */
export function axesOf(palette: Palette): uPlot.Axis[] {
  return [
    {
      stroke: palette.axis,
      font,
      grid: { stroke: palette.grid, width: 1 },
      ticks: { show: false },
      values: timeFormats,
      space: 64,
      gap: 4,
      size: 38,
    },
    {
      stroke: palette.axis,
      font,
      grid: { stroke: palette.grid, width: 1 },
      ticks: { show: false },
      values: (_, splits) => splits.map((value) => reading(value)),
      space: 34,
      gap: 4,
      size: (_, values) => 14 + Math.max(3, ...(values ?? []).map((value) => value.length)) * 6.2,
    },
  ]
}

/** Times as the page shows them: the browser's own zone, or UTC. */
export function datesIn(zone: Zone): Pick<uPlot.Options, 'tzDate'> {
  return zone === 'utc' ? { tzDate: (ms: number) => uPlot.tzDate(new Date(ms), 'Etc/UTC') } : {}
}
