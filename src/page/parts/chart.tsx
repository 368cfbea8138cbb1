import { useEffect, useLayoutEffect, useRef } from 'react'
import uPlot from 'uplot'
import type { Zone } from '../format.ts'
import { reading } from '../format.ts'
import { paletteOf } from '../palette.ts'
import type { Buckets } from '../plot-data.ts'
import { withGaps } from '../plot-data.ts'
import { useDark } from '../settings.ts'
import { useWidth } from './use-width.ts'

export interface ChartProps {
  readonly buckets: Buckets
  readonly stepMs: number
  /** Epoch milliseconds: what the axis shows, be there readings or not. */
  readonly from: number
  readonly to: number
  readonly zone: Zone
  /** Steps, for what is on or off. */
  readonly stepped: boolean
  readonly label: string
  /** The bucket under the pointer, of `buckets`; undefined: none. */
  readonly onPoint: (time: number | undefined) => void
  /** A part of the axis was drawn over with the pointer. */
  readonly onZoom: (from: number, to: number) => void
}

const height = 190
/** Narrower is a click with a trembling hand. */
const zoomPixelsMin = 6

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
function dotted(u: uPlot, series: number, show: boolean): number[] | null {
  if (show) return null
  const data = u.data[series] ?? []
  const alone: number[] = []
  const there = (i: number): boolean => typeof data[i] === 'number'
  for (let i = 0; i < data.length; i++) if (there(i) && !there(i - 1) && !there(i + 1)) alone.push(i)
  return alone
}

/** A little more than there is; of what never changes a band around it. */
function valueRange(min: number | null, max: number | null): uPlot.Range.MinMax {
  if (min === null || max === null) return [0, 1]
  const margin = max > min ? 0 : (Math.abs(min) || 1) * 0.02
  return uPlot.rangeNum(min - margin, max + margin, 0.08, false)
}

/** A series by time: the mean as a line, least and greatest as a band around it where they differ. */
export function Chart(props: ChartProps) {
  const { buckets, stepMs, from, to, zone, stepped, label } = props
  const host = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(undefined)
  const width = useWidth(host)
  const dark = useDark()
  const latest = useRef(props)
  useEffect(() => {
    latest.current = props
  })

  useLayoutEffect(() => {
    const element = host.current
    if (element === null || width === 0) return undefined
    const palette = paletteOf(element)
    const font = '11px system-ui, sans-serif'
    const paths = stepped ? uPlot.paths.stepped?.({ align: 1 }) : undefined
    const drawn = paths === undefined ? {} : { paths }
    plot.current = new uPlot(
      {
        width,
        height,
        ms: 1,
        legend: { show: false },
        padding: [10, 16, 0, 0],
        ...(zone === 'utc' ? { tzDate: (ms: number) => uPlot.tzDate(new Date(ms), 'Etc/UTC') } : {}),
        cursor: {
          y: false,
          points: { size: 7, width: 1.5 },
          sync: { key: 'device', setSeries: false },
          drag: { x: true, y: false, setScale: false },
          bind: { dblclick: () => () => null },
        },
        scales: {
          x: { time: true },
          y: { range: (_, min, max) => valueRange(min, max) },
        },
        axes: [
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
        ],
        series: [
          {},
          { label: 'min', ...drawn, points: { show: false } },
          { label: 'max', ...drawn, points: { show: false } },
          {
            label: 'mean',
            ...drawn,
            stroke: palette.line,
            width: 1.5,
            points: { size: 4, width: 1, fill: palette.line, stroke: palette.line, filter: dotted },
          },
        ],
        bands: [{ series: [2, 1], fill: palette.band }],
        hooks: {
          setCursor: [
            (u) => {
              const at = u.cursor.idx
              latest.current.onPoint(at === null || at === undefined ? undefined : u.data[0][at])
            },
          ],
          setSelect: [
            (u) => {
              if (u.select.width < zoomPixelsMin) return
              const [begin, end] = [u.posToVal(u.select.left, 'x'), u.posToVal(u.select.left + u.select.width, 'x')]
              u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
              latest.current.onZoom(begin, end)
            },
          ],
        },
      },
      [[], [], [], []],
      element,
    )
    return () => {
      plot.current?.destroy()
      plot.current = undefined
    }
  }, [width, dark, zone, stepped])

  useEffect(() => {
    const u = plot.current
    if (u === undefined) return
    const [time, min, max, mean] = withGaps(buckets, stepMs)
    u.batch(() => {
      u.setData([time, min, max, mean], false)
      u.setScale('x', { min: from, max: to })
    })
  }, [buckets, stepMs, from, to, width, dark, zone, stepped])

  return <div className="chart" ref={host} role="img" aria-label={label} />
}
