import { useEffect, useMemo, useRef, useState } from 'react'
import type { Reading } from '../api.ts'
import { clipped, moment, reading as readingText, visible } from '../format.ts'
import { useAccess, useAsk, useNear, useNow } from '../hooks.ts'
import type { LiveMetrics } from '../live-metrics.ts'
import { Chart } from '../parts/chart.tsx'
import { Loading, Name, Problem } from '../parts/common.tsx'
import { NumberTable } from '../parts/number-table.tsx'
import { bucketsOf, noBuckets, PointRing, stepMsOf, stepText, withPoints } from '../plot-data.ts'
import type { Buckets, Point } from '../plot-data.ts'
import { lengthMs, rangeParameters } from '../range.ts'
import type { Range } from '../range.ts'
import { useSettings } from '../settings.ts'

/** Live points kept between two answers of the store: 10 s at 400 a second. */
const pointsMax = 4_096
/** Live points are drawn at most so often. */
const drawMs = 250
const aggregations = ['avg', 'min', 'max', 'count'] as const
/** The server chooses about 720 buckets at most. */
const bucketsMax = 2_000
const textRows = 100
const noPoints: readonly Point[] = []

interface PanelProps {
  readonly device: string
  readonly latest: Reading
  readonly range: Range
  readonly table: boolean
  readonly live: LiveMetrics
  readonly onZoom: (from: number, to: number) => void
}

/** One metric: nothing is asked for until it comes near the window, as a device may have a thousand. */
export function MetricPanel(props: PanelProps) {
  const { latest } = props
  const host = useRef<HTMLElement>(null)
  const near = useNear(host)
  const isText = typeof latest.value === 'string' && latest.flags?.includes('big_integer') !== true
  return (
    <section ref={host} className="panel metric" data-metric={latest.metric} aria-label={latest.metric}>
      {!near ? <div className="chart" /> : isText ? <TextPanel {...props} /> : <NumberPanel {...props} />}
    </section>
  )
}

/** The newest reading, as it comes. */
function useNewest({ latest, live }: PanelProps, on?: (reading: Reading) => void): Reading {
  const [heard, setHeard] = useState<Reading>()
  const handler = useRef(on)
  useEffect(() => {
    handler.current = on
  })
  useEffect(() => {
    let timer: number | undefined
    let waiting: Reading | undefined
    const stop = live.on(latest.metric, (reading) => {
      handler.current?.(reading)
      waiting = later(waiting, reading)
      timer ??= window.setTimeout(() => {
        timer = undefined
        setHeard((known) => later(known, waiting))
      }, drawMs)
    })
    return () => {
      stop()
      window.clearTimeout(timer)
    }
  }, [live, latest.metric])
  // The stream does not tell units.
  return { ...(later(latest, heard) ?? latest), ...(latest.unit === undefined ? {} : { unit: latest.unit }) }
}

function later(a: Reading | undefined, b: Reading | undefined): Reading | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return Date.parse(b.time) >= Date.parse(a.time) ? b : a
}

function Head({ newest, said }: { readonly newest: Reading; readonly said: string }) {
  const { zone } = useSettings()
  return (
    <header>
      <h2>
        <Name of={newest.metric} />
      </h2>
      <p className="now" title={moment(Date.parse(newest.time), zone)}>
        {clipped(readingText(newest.value), 60)}
        {newest.unit !== undefined && <span className="unit">{visible(newest.unit)}</span>}
      </p>
      <p className="said soft">{said}</p>
    </header>
  )
}

interface Answer {
  readonly buckets: Buckets
  readonly from: number
  readonly to: number
  readonly step: string
  readonly askedMs: number
}

function NumberPanel(props: PanelProps) {
  const { device, latest, range, table, onZoom } = props
  const { zone } = useSettings()
  const [ring] = useState(() => new PointRing(pointsMax))
  const newest = useNewest(props, ({ time, value }) => {
    if (typeof value !== 'string' && value !== null) ring.push(Date.parse(time), Number(value))
  })
  const length = lengthMs(range)
  const follows = 'preset' in range
  const { from, to } = rangeParameters(range)
  const asked = useAsk(
    `series ${device} ${latest.metric} ${from} ${to}`,
    async (api, signal): Promise<Answer> => {
      const askedMs = Date.now()
      const answer = await api.readings.query(
        { device: [device], metric: [latest.metric], from, to, step: 'auto', agg: aggregations, limit: bucketsMax },
        { signal },
      )
      // What has come meanwhile is in the answer, or in the next one.
      ring.clear()
      return { buckets: bucketsOf(answer), from: Date.parse(answer.from ?? ''), to: Date.parse(answer.to ?? ''), step: answer.step ?? '', askedMs }
    },
    { everyMs: follows ? Math.min(60_000, Math.max(10_000, length / 90)) : undefined, keep: true },
  )
  const now = useNow(Math.max(1_000, length / 1_000))
  const [point, setPoint] = useState<number>()
  const { data } = asked
  const stepMs = stepMsOf(data?.step)
  // Weeks and months follow the calendar, not the epoch: the next answer brings them.
  const points = follows && !/[wo]$/.test(data?.step ?? '') ? ring.points : noPoints
  const buckets = useMemo(() => withPoints(data?.buckets ?? noBuckets, points, stepMs), [data, points, stepMs])
  if (data === undefined) {
    return (
      <>
        <Head newest={newest} said="" />
        <div className="chart">{asked.error === undefined ? <Loading /> : <Problem error={asked.error} again={asked.again} />}</div>
      </>
    )
  }
  // Until now goes on while the store is not asked; by the server's clock.
  const moved = follows ? Math.max(0, now - data.askedMs) : 0
  const shownTo = data.to + moved
  const shownFrom = follows ? shownTo - length : data.from
  const at = point === undefined ? -1 : buckets.time.indexOf(point)
  const banded = buckets.count.some((count) => count > 1)
  const flag = typeof latest.value === 'boolean'
  const summary = flag ? `share that is true, per ${stepText(data.step)}` : banded ? `mean and range per ${stepText(data.step)}` : 'a reading each'
  const said = at >= 0 ? bucketText(buckets, at, zone) : buckets.time.length === 0 ? 'no readings in this time' : summary
  return (
    <>
      <Head newest={newest} said={said} />
      {asked.error !== undefined && <Problem error={asked.error} again={asked.again} />}
      {table ? (
        <BucketTable buckets={buckets} label={latest.metric} />
      ) : (
        <Chart
          buckets={buckets}
          stepMs={stepMs}
          from={shownFrom}
          to={shownTo}
          zone={zone}
          stepped={flag}
          label={`${latest.metric}: ${chartText(buckets)}`}
          onPoint={setPoint}
          onZoom={onZoom}
        />
      )}
      <Csv device={device} metric={latest.metric} answer={data} />
    </>
  )
}

function bucketText({ time, mean, min, max, count }: Buckets, at: number, zone: 'local' | 'utc'): string {
  const [low, high, n] = [min[at]!, max[at]!, count[at]!]
  const range = low === high ? '' : `  ${readingText(low)} to ${readingText(high)}`
  return `${moment(time[at]!, zone)}  ${n > 1 ? 'mean ' : ''}${readingText(mean[at]!)}${range}${n > 1 ? `  of ${n}` : ''}`
}

function chartText({ mean, min, max }: Buckets): string {
  if (mean.length === 0) return 'no readings'
  const [low, high] = [min.reduce((a, b) => Math.min(a, b)), max.reduce((a, b) => Math.max(a, b))]
  return `from ${readingText(low)} to ${readingText(high)}, at the end ${readingText(mean.at(-1) ?? 0)}`
}

const columns = [
  ['Mean', 'mean'],
  ['Min', 'min'],
  ['Max', 'max'],
  ['Readings', 'count'],
] as const

function BucketTable({ buckets, label }: { readonly buckets: Buckets; readonly label: string }) {
  return (
    <NumberTable
      label={`Table of ${label}`}
      time={buckets.time}
      columns={columns.map(([title, column]) => [title, (row) => readingText(buckets[column][row] ?? null)])}
    />
  )
}

/** What is shown, as a file. A link where that suffices; with a token, which links cannot carry, fetched first. */
function Csv({ device, metric, answer }: { readonly device: string; readonly metric: string; readonly answer: Answer }) {
  const { api, token } = useAccess()
  const [failed, setFailed] = useState<unknown>()
  const request = { device: [device], metric: [metric], from: new Date(answer.from).toISOString(), to: new Date(answer.to).toISOString() }
  const more = { step: answer.step, agg: aggregations, limit: bucketsMax, format: 'csv' } as const
  const name = `${device}-${metric}.csv`.replaceAll(/[^\w.-]+/g, '_')
  if (token === undefined) {
    const listed = (text: string): string => text.replaceAll(',', '\\,')
    const query = new URLSearchParams({
      ...request,
      device: listed(device),
      metric: listed(metric),
      step: more.step,
      agg: aggregations.join(),
      format: 'csv',
      limit: String(bucketsMax),
    })
    return (
      <a className="csv" href={`/api/v1/query?${query}`} download={name}>
        CSV
      </a>
    )
  }
  const fetchIt = async (): Promise<void> => {
    try {
      const text = await api.readings.query({ ...request, ...more }, { as: 'text' })
      const url = URL.createObjectURL(new Blob([text], { type: 'text/csv' }))
      const link = document.createElement('a')
      link.href = url
      link.download = name
      link.click()
      URL.revokeObjectURL(url)
      setFailed(undefined)
    } catch (error) {
      setFailed(error)
    }
  }
  return (
    <>
      {failed !== undefined && <Problem error={failed} />}
      <button type="button" className="csv quiet" onClick={() => void fetchIt()}>
        CSV
      </button>
    </>
  )
}

/** What is no number has no chart: its readings, newest first. */
function TextPanel(props: PanelProps) {
  const { device, latest, range } = props
  const { zone } = useSettings()
  const { from, to } = rangeParameters(range)
  const newest = useNewest(props)
  const asked = useAsk(
    `text ${device} ${latest.metric} ${from} ${to} ${newest.time}`,
    (api, signal) => api.readings.query({ device: [device], metric: [latest.metric], from, to, order: 'desc', limit: textRows }, { signal }),
    { everyMs: 'preset' in range ? 10_000 : undefined, keep: true },
  )
  const time = asked.data?.columns.time ?? []
  const value = asked.data?.columns['value'] ?? []
  return (
    <>
      <Head newest={newest} said={asked.data?.truncated === true ? `the newest ${textRows} in this time` : ''} />
      {asked.error !== undefined && <Problem error={asked.error} again={asked.again} />}
      {asked.data === undefined && asked.error === undefined && <Loading />}
      <div className="scroll" tabIndex={0} role="region" aria-label={`Readings of ${latest.metric}`}>
        <table className="list numbers">
          <tbody>
            {time.map((t, i) => (
              <tr key={String(t)}>
                <td>{moment(Number(t), zone)}</td>
                <td className="wrap">{visible(String(value[i] ?? ''))}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  )
}
