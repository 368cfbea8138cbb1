import { useEffect, useLayoutEffect, useRef } from 'react'
import uPlot from 'uplot'
import type { ForecastColumns } from '../forecast-data.ts'
import type { Zone } from '../format.ts'
import { paletteOf } from '../palette.ts'
import { useDark } from '../settings.ts'
import { axesOf, datesIn, dotted, valueRange } from './plot-options.ts'
import { useWidth } from './use-width.ts'

interface ForecastChartProps {
  readonly columns: ForecastColumns
  /** Epoch milliseconds: what was known ends here. */
  readonly issuedMs: number
  readonly zone: Zone
  readonly label: string
  /** The row under the pointer; undefined: none. */
  readonly onRow: (row: number | undefined) => void
}

const height = 240

/** What was measured as a line, what was predicted as another within the band of its interval; a stroke where the future begins. */
export function ForecastChart(props: ForecastChartProps) {
  const { columns, issuedMs, zone, label } = props
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
    const stroke = (u: uPlot): void => {
      const x = Math.round(u.valToPos(latest.current.issuedMs, 'x', true)) + 0.5
      const { ctx, bbox } = u
      if (!(x >= bbox.left && x <= bbox.left + bbox.width)) return
      ctx.save()
      ctx.strokeStyle = palette.axis
      ctx.lineWidth = window.devicePixelRatio
      ctx.setLineDash([3 * window.devicePixelRatio, 3 * window.devicePixelRatio])
      ctx.beginPath()
      ctx.moveTo(x, bbox.top)
      ctx.lineTo(x, bbox.top + bbox.height)
      ctx.stroke()
      ctx.restore()
    }
    const points = (colour: string): uPlot.Series.Points => ({ size: 4, width: 1, fill: colour, stroke: colour, filter: dotted })
    plot.current = new uPlot(
      {
        width,
        height,
        ms: 1,
        legend: { show: false },
        padding: [10, 16, 0, 0],
        ...datesIn(zone),
        cursor: { y: false, points: { size: 7, width: 1.5 }, drag: { x: false, y: false, setScale: false }, bind: { dblclick: () => () => null } },
        scales: { x: { time: true }, y: { range: (_, min, max) => valueRange(min, max) } },
        axes: axesOf(palette),
        series: [
          {},
          { label: 'lower', points: { show: false } },
          { label: 'upper', points: { show: false } },
          { label: 'predicted', stroke: palette.forecast, width: 1.5, points: points(palette.forecast) },
          { label: 'measured', stroke: palette.line, width: 1.5, points: points(palette.line) },
        ],
        bands: [{ series: [2, 1], fill: palette.forecastBand }],
        hooks: {
          draw: [stroke],
          setCursor: [(u) => latest.current.onRow(u.cursor.idx ?? undefined)],
        },
      },
      [[], [], [], [], []],
      element,
    )
    return () => {
      plot.current?.destroy()
      plot.current = undefined
    }
  }, [width, dark, zone])

  useEffect(() => {
    const { time, lower, upper, mean, actual } = columns
    plot.current?.setData([[...time], [...lower], [...upper], [...mean], [...actual]])
  }, [columns, issuedMs, width, dark, zone])

  return <div className="chart tall" ref={host} role="img" aria-label={label} />
}
