import { useEffect, useLayoutEffect, useRef } from 'react'
import uPlot from 'uplot'
import type { Zone } from '../format.ts'
import { paletteOf } from '../palette.ts'
import type { Buckets } from '../plot-data.ts'
import { withGaps } from '../plot-data.ts'
import { useDark } from '../settings.ts'
import { axesOf, datesIn, dotted, valueRange } from './plot-options.ts'
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
    const paths = stepped ? uPlot.paths.stepped?.({ align: 1 }) : undefined
    const drawn = paths === undefined ? {} : { paths }
    plot.current = new uPlot(
      {
        width,
        height,
        ms: 1,
        legend: { show: false },
        padding: [10, 16, 0, 0],
        ...datesIn(zone),
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
        axes: axesOf(palette),
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
