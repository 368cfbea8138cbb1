import { useMemo, useState } from 'react'
import { isCode } from '../api.ts'
import type { Device } from '../api.ts'
import { visible } from '../format.ts'
import { useAsk, useLive } from '../hooks.ts'
import { LiveMetrics } from '../live-metrics.ts'
import { Ago, Choice, Empty, Loading, Name, PageHead, Problem } from '../parts/common.tsx'
import { RangePicker } from '../parts/range-picker.tsx'
import { lengthMs, rangeHash, rangeOf } from '../range.ts'
import { go, hashOf } from '../route.ts'
import type { Route } from '../route.ts'
import { StateOf } from './devices.tsx'
import { ForecastPanel } from './forecast-panel.tsx'
import { MetricPanel } from './metric-panel.tsx'

type Shown = 'chart' | 'table' | 'forecasts'
const shownNames: readonly (readonly [Shown, string])[] = [
  ['chart', 'Charts'],
  ['table', 'Tables'],
  ['forecasts', 'Forecasts'],
]

/** How far forecasts are looked back on, in days. */
const backs = ['3', '7', '30'] as const
/** How long before their time predictions of the past were made, in hours. */
const leads = ['1', '6', '24'] as const
const dayMs = 86_400_000

function oneOf<T extends string>(known: readonly T[], text: string | null, otherwise: T): T {
  return known.find((one) => one === text) ?? otherwise
}

/** From so many on, a device's metrics can be searched. */
const searchFrom = 8

export function DeviceView({ id, route }: { readonly id: string; readonly route: Route }) {
  const [openedMs] = useState(() => Date.now())
  const shown = oneOf(
    shownNames.map(([name]) => name),
    route.query.get('view'),
    'chart',
  )
  const back = oneOf(backs, route.query.get('back'), '3')
  const lead = oneOf(leads, route.query.get('lead'), '1')
  const only = route.query.get('metric')
  const device = useAsk(`device ${id}`, (api, signal) => api.devices.get({ id }, { signal }), { everyMs: 5_000 })
  const latest = useAsk(`latest ${id}`, async (api, signal) => (await api.readings.getDeviceLatest({ id }, { signal })).items ?? [], {
    everyMs: 10_000,
  })
  const [filter, setFilter] = useState('')
  const metrics = useMemo(() => new LiveMetrics(), [])
  const live = useLive(id, (event) => {
    metrics.tell(event)
    // A gap in the stream: what is missing is in the store.
    if (event.type === 'gap') latest.again()
  })
  if (device.data === undefined) {
    if (device.error === undefined) return <Loading />
    const unknown = isCode(device.error, 'device_not_found')
    return (
      <>
        <PageHead title={<Name of={id} />} />
        {unknown ? (
          <Empty title="No device has this id">It appears here by itself with its first message.</Empty>
        ) : (
          <Problem error={device.error} again={device.again} />
        )}
        <p className="below">
          <a href="#/devices">All devices</a>
        </p>
      </>
    )
  }
  // Of a device that is new an hour is an empty chart with a stroke at its end.
  const isNew = openedMs - Date.parse(device.data.created_at) < lengthMs({ preset: '15m' })
  const range = rangeOf(route.query, isNew ? '15m' : '1h')
  const found = (latest.data ?? []).filter(({ metric }) => (only === null || metric === only) && metric.toLowerCase().includes(filter.toLowerCase()))
  const numeric = found.filter(({ value }) => typeof value === 'number')
  const turn = (change: Readonly<Record<string, string | undefined>>): void =>
    go(hashOf(route.path, { ...Object.fromEntries(route.query), ...change }), { replace: true })
  return (
    <>
      <p className="crumb">
        <a href="#/devices">Devices</a>
      </p>
      <PageHead title={<Name of={id} />}>
        <StateOf device={device.data} />
        <span className="soft">
          last seen <Ago at={device.data.last_seen} />
        </span>
      </PageHead>
      <About device={device.data} />
      <div className="toolbar sticky">
        <Choice label="Shown as" options={shownNames} value={shown} onChange={(view) => turn({ view: view === 'chart' ? undefined : view })} />
        {shown === 'forecasts' ? (
          <>
            <Choice
              label="Looked back on"
              options={backs.map((days) => [days, `${days} d`])}
              value={back}
              onChange={(days) => turn({ back: days })}
            />
            <Choice
              label="Predictions that were made so long before"
              options={leads.map((hours) => [hours, `${hours} h ahead`])}
              value={lead}
              onChange={(hours) => turn({ lead: hours })}
            />
          </>
        ) : (
          <RangePicker range={range} onChange={(next) => go(rangeHash(route, next))} />
        )}
        {(latest.data?.length ?? 0) >= searchFrom && (
          <input type="search" aria-label="Search metrics" value={filter} spellCheck={false} onChange={(event) => setFilter(event.target.value)} />
        )}
        <span className={live === 'open' ? 'state good' : 'state'} role="status">
          {live === 'open' ? 'live' : live === 'lost' ? 'live stream interrupted' : 'connecting'}
        </span>
      </div>
      {latest.error !== undefined && <Problem error={latest.error} again={latest.again} />}
      {latest.data === undefined && latest.error === undefined && <Loading />}
      {latest.data?.length === 0 && <Empty title="It has sent no reading yet">What it sends appears here by itself.</Empty>}
      {latest.data !== undefined && latest.data.length > 0 && found.length === 0 && <Empty title="No metric is called that" />}
      {only !== null && (
        <p className="only">
          Only <Name of={only} />.{' '}
          <button type="button" className="quiet" onClick={() => turn({ metric: undefined })}>
            Show all metrics
          </button>
        </p>
      )}
      {shown === 'forecasts' && found.length > 0 && numeric.length === 0 && <Empty title="Nothing here can be forecast">Only numbers are.</Empty>}
      <div className={shown === 'forecasts' ? 'panels wide' : 'panels'}>
        {shown === 'forecasts'
          ? numeric.map((reading) => (
              <ForecastPanel key={reading.metric} device={id} latest={reading} backMs={Number(back) * dayMs} leadHours={Number(lead)} />
            ))
          : found.map((reading) => (
              <MetricPanel
                key={reading.metric}
                device={id}
                latest={reading}
                range={range}
                table={shown === 'table'}
                live={metrics}
                onZoom={(from, to) => go(rangeHash(route, { from, to }))}
              />
            ))}
      </div>
    </>
  )
}

/** What the device says of itself, and what people say of it. */
function About({ device }: { readonly device: Device }) {
  const { name, type, attributes, metadata, created_at: created, auto_registered: auto } = device
  const said = Object.entries(attributes).filter(([key]) => !key.startsWith('unit.'))
  const labels = Object.entries(metadata)
  return (
    <dl className="about-device">
      {name !== '' && name !== device.id && <Pair name="Name" value={name} />}
      {type !== '' && <Pair name="Type" value={type} />}
      {said.map(([key, value]) => (
        <Pair key={`a ${key}`} name={key} value={value} />
      ))}
      {labels.map(([key, value]) => (
        <Pair key={`m ${key}`} name={key} value={typeof value === 'string' ? value : JSON.stringify(value)} />
      ))}
      <div>
        <dt>{auto === true ? 'First heard' : 'Registered'}</dt>
        <dd>
          <Ago at={created} />
        </dd>
      </div>
    </dl>
  )
}

function Pair({ name, value }: { readonly name: string; readonly value: string }) {
  return (
    <div>
      <dt>{visible(name)}</dt>
      <dd>
        <Name of={value} />
      </dd>
    </div>
  )
}
