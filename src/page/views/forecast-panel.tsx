import { useMemo, useRef, useState } from 'react'
import type { ReactNode } from 'react'
import { isCode, missingOf } from '../api.ts'
import type { Forecast, ForecastAccuracy, ForecastModel, Reading } from '../api.ts'
import { forecastColumns, lookbackMs, stepsMax, withinBand } from '../forecast-data.ts'
import type { ForecastColumns } from '../forecast-data.ts'
import { amount, coverageText, driftText, fallbackText, modelName, percent, skillText, tooLittleText } from '../forecast-text.ts'
import { clipped, duration, figure, moment, reading as readingText, visible } from '../format.ts'
import type { Zone } from '../format.ts'
import { useAsk, useNear } from '../hooks.ts'
import { Ago, Empty, Loading, Name, Problem } from '../parts/common.tsx'
import { ForecastChart } from '../parts/forecast-chart.tsx'
import { NumberTable } from '../parts/number-table.tsx'
import { bucketsOf } from '../plot-data.ts'
import { useSettings } from '../settings.ts'
import { Crossing } from './forecast-crossing.tsx'
import { Training } from './forecast-training.tsx'
import { Versions } from './forecast-versions.tsx'

/** A forecast is issued once a step; a training that ends asks at once. */
const everyMs = 30_000
const aggregations = ['avg', 'min', 'max', 'count'] as const

interface ForecastPanelProps {
  readonly device: string
  readonly latest: Reading
  readonly backMs: number
  /** Hours between what was known and what was predicted, in the past that is shown. */
  readonly leadHours: number
}

/** A metric's forecast, and what has become of those before it. Nothing is asked for until it comes near the window. */
export function ForecastPanel(props: ForecastPanelProps) {
  const { latest } = props
  const host = useRef<HTMLElement>(null)
  const near = useNear(host)
  return (
    <section ref={host} className="panel metric forecast" data-metric={latest.metric} aria-label={`Forecast of ${latest.metric}`}>
      {near ? <Content {...props} /> : <div className="chart tall" />}
    </section>
  )
}

interface Answer {
  readonly forecast: Forecast
  readonly accuracy: ForecastAccuracy
  readonly versions: readonly ForecastModel[]
  readonly columns: ForecastColumns
}

function Content({ device, latest, backMs, leadHours }: ForecastPanelProps) {
  const { metric, unit } = latest
  const asked = useAsk(
    `forecast ${device} ${metric} ${backMs} ${leadHours}`,
    async (api, signal): Promise<Answer> => {
      const series = { device, metric }
      const [forecast, accuracy, { items: versions }] = await Promise.all([
        api.forecasts.get(series, { signal }),
        api.forecasts.getForecastAccuracy(series, { signal }),
        api.models.listModelVersions(series, { signal }),
      ])
      const [issuedMs, stepMs] = [Date.parse(forecast.issued_at), forecast.step_s * 1000]
      const [fromMs, toMs] = [lookbackMs(issuedMs, backMs, stepMs), issuedMs + forecast.points.length * stepMs]
      const [from, to] = [new Date(fromMs).toISOString(), new Date(toMs).toISOString()]
      const [past, measured] = await Promise.all([
        api.forecasts.listPredictions({ ...series, from, to: forecast.issued_at, lead: `${leadHours}h`, limit: stepsMax }, { signal }),
        api.readings.query(
          { device: [device], metric: [metric], from, to, step: `${forecast.step_s}s`, agg: aggregations, limit: 2 * stepsMax },
          { signal },
        ),
      ])
      const columns = forecastColumns(bucketsOf(measured), [...past.items, ...forecast.points], { fromMs, toMs, stepMs })
      return { forecast, accuracy, versions, columns }
    },
    { everyMs, keep: true },
  )
  const { data, error, again } = asked
  const tooLittle = isCode(error, 'too_little_data')
  const empty = isCode(error, 'series_not_found')
  return (
    <>
      <Head latest={latest} data={data} leadHours={leadHours} />
      {tooLittle && <Empty title="Too little data to forecast">{tooLittleText(missingOf(error), undefined)}</Empty>}
      {empty && (
        <Empty title="No readings are stored yet">A forecast is made from what a device has sent; its first readings appear within seconds.</Empty>
      )}
      {error !== undefined && !tooLittle && !empty && <Problem error={error} again={again} />}
      {data === undefined && error === undefined && (
        <div className="chart tall">
          <Loading />
        </div>
      )}
      {data !== undefined && !tooLittle && !empty && <Shown {...data} unit={unit} leadHours={leadHours} />}
      <Training device={device} metric={metric} onDone={again} />
      {data !== undefined && (
        <More title={`Versions (${data.versions.length})`}>
          <Versions items={data.versions} onChange={again} />
        </More>
      )}
    </>
  )
}

function Head({ latest, data, leadHours }: { readonly latest: Reading; readonly data: Answer | undefined; readonly leadHours: number }) {
  const { zone } = useSettings()
  const last = data?.forecast.points.at(-1)
  const until = last === undefined ? undefined : Date.parse(last.time) + (data?.forecast.step_s ?? 0) * 1000
  const ahead = until === undefined ? '' : `until ${moment(until, zone)}; left of the stroke, what had been predicted ${leadHours} h ahead`
  return (
    <header>
      <h2>
        <Name of={latest.metric} />
      </h2>
      <p className="now" title={moment(Date.parse(latest.time), zone)}>
        {clipped(readingText(latest.value), 60)}
        {latest.unit !== undefined && <span className="unit">{visible(latest.unit)}</span>}
      </p>
      <p className="said soft">{ahead}</p>
    </header>
  )
}

function Shown({
  forecast,
  accuracy,
  versions,
  columns,
  unit,
  leadHours,
}: Answer & { readonly unit: string | undefined; readonly leadHours: number }) {
  const past = useMemo(() => withinBand(columns, Date.parse(forecast.issued_at)), [columns, forecast.issued_at])
  const { fallback } = forecast
  return (
    <>
      {fallback !== null && (
        <p className="fallback" role="status">
          {fallbackText(fallback, forecast.detail)}
        </p>
      )}
      <div className="forecast-parts">
        <Plot forecast={forecast} columns={columns} unit={unit} />
        <Figures forecast={forecast} accuracy={accuracy} versions={versions} unit={unit} />
        <div className="rest">
          {past.n > 0 && (
            <p className="soft shown-past">
              {figure(past.inside)} of the {figure(past.n)} steps shown ({percent(past.inside / past.n)}) were measured within the interval that was
              predicted {leadHours} h ahead.
            </p>
          )}
          <More title="Will it cross a threshold?">
            <Crossing device={forecast.device} metric={forecast.metric} unit={unit} horizonMs={forecast.points.length * forecast.step_s * 1000} />
          </More>
          <More title="As a table">
            <ForecastTable columns={columns} label={forecast.metric} />
          </More>
        </div>
      </div>
    </>
  )
}

/** What is under the pointer is told in place of the legend; it is kept here, as all else does not change with it. */
function Plot({ forecast, columns, unit }: Pick<Answer, 'forecast' | 'columns'> & { readonly unit: string | undefined }) {
  const { zone } = useSettings()
  const [row, setRow] = useState<number>()
  return (
    <div>
      <p className="legend soft" aria-hidden="true">
        {row === undefined ? (
          <>
            <span className="key measured">measured</span>
            <span className="key predicted">predicted, with its {percent(forecast.level)} interval</span>
          </>
        ) : (
          rowText(columns, row, zone, unit)
        )}
      </p>
      <ForecastChart
        columns={columns}
        issuedMs={Date.parse(forecast.issued_at)}
        zone={zone}
        label={chartText(forecast, columns, unit)}
        onRow={setRow}
      />
    </div>
  )
}

/** What is made only when it is opened: a table may have two thousand rows. */
function More({ title, children }: { readonly title: string; readonly children: ReactNode }) {
  const [open, setOpen] = useState(false)
  return (
    <details className="more" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{title}</summary>
      {open && children}
    </details>
  )
}

/** Two errors side by side, so that their proportion is seen. */
function ErrorRow({
  name,
  value,
  most,
  unit,
  note,
  bar,
}: {
  readonly name: string
  readonly value: number | null
  readonly most: number
  readonly unit: string | undefined
  readonly note: string
  readonly bar: string
}) {
  return (
    <>
      <dt>{name}</dt>
      <dd>
        {value === null ? <span className="soft">not known yet</span> : amount(value, unit)} <span className="soft">{note}</span>
        {value !== null && most > 0 && <div className={bar} style={{ width: `${(value / most) * 100}%` }} />}
      </dd>
    </>
  )
}

function Figures({ forecast, accuracy, versions, unit }: Pick<Answer, 'forecast' | 'accuracy' | 'versions'> & { readonly unit: string | undefined }) {
  const { zone } = useSettings()
  const { kind, version } = forecast.model
  const model = versions.find((one) => one.version === version)
  const { n, mae, naive_mae: naive, skill, level, coverage, drift } = accuracy
  // While seasonal naive answers for a model, what is known is still of the model.
  const whose = accuracy.version === version ? '' : ` of version ${accuracy.version}`
  const most = Math.max(mae ?? 0, naive ?? 0)
  const since = drift.since === null ? undefined : moment(Date.parse(drift.since), zone)
  return (
    <dl className="facts forecast-facts">
      <dt>Model</dt>
      <dd>
        {modelName(kind, model?.card)}
        {version > 0 && `, version ${version}`}
      </dd>
      {model !== undefined && (
        <>
          <dt>Trained</dt>
          <dd>
            <Ago at={model.created_at} />
          </dd>
        </>
      )}
      <dt>Issued</dt>
      <dd>{moment(Date.parse(forecast.issued_at), zone)}</dd>
      <ErrorRow name="Mean error" value={mae} most={most} unit={unit} note={n > 0 ? `of ${figure(n)} predictions${whose}` : ''} bar="bar" />
      <ErrorRow name="Doing nothing" value={naive} most={most} unit={unit} note={naive === null ? '' : 'seasonal naive'} bar="bar naive" />
      <dt>Skill lately</dt>
      <dd className={skill !== null && skill < 0 ? 'bad' : undefined}>{skillText(skill, model?.card)}</dd>
      <dt>Interval</dt>
      <dd>{coverageText(level, coverage)}</dd>
      <dt>Drift</dt>
      <dd className={since === undefined ? undefined : 'bad'}>{driftText(drift.statistic, drift.threshold, since)}</dd>
    </dl>
  )
}

function rowText({ time, lower, upper, mean, actual }: ForecastColumns, row: number, zone: Zone, unit: string | undefined): string {
  const [low, high, predicted, measured] = [lower[row] ?? null, upper[row] ?? null, mean[row] ?? null, actual[row] ?? null]
  const parts = [
    measured === null ? '' : `measured ${amount(measured, unit)}`,
    predicted === null ? '' : `predicted ${amount(predicted, unit)}`,
    low === null || high === null ? '' : `${amount(low, undefined)} to ${amount(high, undefined)}`,
  ]
  return [moment(time[row] ?? 0, zone), ...parts].filter(Boolean).join('  ')
}

/** The picture in words. */
function chartText({ metric, points, level, step_s: stepS }: Forecast, { actual }: ForecastColumns, unit: string | undefined): string {
  const means = points.map(({ mean }) => mean)
  if (means.length === 0) return `${metric}: no forecast`
  const last = points.at(-1)
  const band =
    last === undefined || last.lower === null || last.upper === null
      ? ''
      : `; at the end the ${percent(level)} interval is ${amount(last.lower, unit)} to ${amount(last.upper, unit)}`
  const known = actual.findLast((value) => value !== null) ?? null
  const measured = known === null ? '' : `, last measured ${amount(known, unit)}`
  const [low, high] = [Math.min(...means), Math.max(...means)]
  return `${metric}: forecast for ${duration(points.length * stepS * 1000)}, from ${amount(low, unit)} to ${amount(high, unit)}${band}${measured}`
}

function ForecastTable({ columns, label }: { readonly columns: ForecastColumns; readonly label: string }) {
  const text = (column: 'actual' | 'mean' | 'lower' | 'upper') => (row: number) => amount(columns[column][row] ?? null, undefined)
  return (
    <NumberTable
      label={`Predictions of ${label}`}
      time={columns.time}
      columns={[
        ['Measured', text('actual')],
        ['Predicted', text('mean')],
        ['Lower', text('lower')],
        ['Upper', text('upper')],
      ]}
    />
  )
}
