import { useEffect, useLayoutEffect, useRef } from 'react'
import uPlot from 'uplot'
import { paletteOf } from '../palette.ts'
import { useDark } from '../settings.ts'
import { useWidth } from './use-width.ts'

const height = 36
/** What is shown: from the right, as it is gathered. */
const windowMs = 5 * 60_000

/** The course of a figure without axes; `label` says the same in words. */
export function Sparkline({
  time,
  values,
  label,
}: {
  readonly time: readonly number[]
  readonly values: readonly (number | null)[]
  readonly label: string
}) {
  const host = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(undefined)
  const width = useWidth(host)
  const dark = useDark()

  useLayoutEffect(() => {
    const element = host.current
    if (element === null || width === 0) return undefined
    const palette = paletteOf(element)
    plot.current = new uPlot(
      {
        width,
        height,
        ms: 1,
        legend: { show: false },
        cursor: { show: false },
        padding: [3, 2, 1, 0],
        axes: [{ show: false }, { show: false }],
        scales: { x: { time: true, range: (_, __, max) => [max - windowMs, max] }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] } },
        series: [{}, { stroke: palette.line, width: 1.5, fill: palette.band, points: { show: false } }],
      },
      [[], []],
      element,
    )
    return () => {
      plot.current?.destroy()
      plot.current = undefined
    }
  }, [width, dark])

  useEffect(() => {
    plot.current?.setData([[...time], [...values]])
  }, [time, values, width, dark])

  return <div className="sparkline" ref={host} role="img" aria-label={label} />
}
