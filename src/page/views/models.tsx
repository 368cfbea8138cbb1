import { useState } from 'react'
import type { ForecastModel } from '../api.ts'
import type { Client } from '../../client/index.ts'
import { amount, modelName, percent, skillFigure, stateNames } from '../forecast-text.ts'
import { moment } from '../format.ts'
import { useAsk, useSettled, useTrail } from '../hooks.ts'
import { Ago, Empty, Loading, Name, PageHead, Problem } from '../parts/common.tsx'
import { Search } from '../parts/search.tsx'
import { go, hashOf } from '../route.ts'
import type { Route } from '../route.ts'
import { useSettings } from '../settings.ts'

const pageRows = 25
/** Models are listed by device: so many devices whose names fit are asked for theirs. */
const devicesMax = 10
/** Latest issues of one device. */
const issuesMax = 200

interface Listed {
  readonly items: readonly ForecastModel[]
  readonly next: string | undefined
  /** More devices fit than were looked at. */
  readonly more: boolean
  /** When each of them last issued a forecast. */
  readonly issued: ReadonlyMap<string, string>
}

const keyOf = (device: string, metric: string): string => JSON.stringify([device, metric])

async function listModels(api: Client, search: string, cursor: string | undefined, signal: AbortSignal): Promise<Listed> {
  const found = await modelsOf(api, search, cursor, signal)
  const devices = [...new Set(found.items.map(({ device }) => device))]
  const issues = await Promise.all(devices.map((device) => api.forecasts.list({ device, limit: issuesMax }, { signal })))
  const issued = new Map(issues.flatMap(({ items }) => items.map(({ device, metric, issued_at: at }) => [keyOf(device, metric), at] as const)))
  return { ...found, issued }
}

async function modelsOf(api: Client, search: string, cursor: string | undefined, signal: AbortSignal): Promise<Omit<Listed, 'issued'>> {
  if (search === '') {
    const { items, next_cursor: next } = await api.models.list({ limit: pageRows, cursor }, { signal })
    return { items, next: next ?? undefined, more: false }
  }
  const devices = await api.devices.list({ search, limit: devicesMax }, { signal })
  const pages = await Promise.all(devices.items.map(({ id }) => api.models.list({ device: id, limit: pageRows }, { signal })))
  return {
    items: pages.flatMap(({ items }) => items),
    next: undefined,
    more: devices.next_cursor !== null || pages.some(({ next_cursor: next }) => next !== null),
  }
}

/** The model of each series that has one, and how well it does. */
export function ModelsView({ route }: { readonly route: Route }) {
  const search = route.query.get('search') ?? ''
  const [typed, setTyped] = useState(search)
  const asked = useSettled(typed.trim(), 250)
  const { cursor, page: pageNumber, turn } = useTrail(asked)
  const list = useAsk(`models ${asked} ${cursor ?? ''}`, (api, signal) => listModels(api, asked, cursor, signal), { everyMs: 15_000 })
  const { data, error } = list
  const change = (text: string): void => {
    setTyped(text)
    go(hashOf(['models'], { search: text.trim() === '' ? undefined : text.trim() }), { replace: true })
  }
  const next = data?.next
  return (
    <>
      <PageHead title="Models" />
      <p className="lead">
        What forecasts each metric, and how well: skill is how much less it errs than doing nothing (what was measured a day before). A series without
        a model is trained on its device’s page.
      </p>
      <Search by="by device id or name" value={typed} onChange={change} />
      {error !== undefined && <Problem error={error} again={list.again} />}
      {data === undefined && error === undefined && <Loading />}
      {data?.items.length === 0 &&
        (asked === '' ? (
          <Empty title="No model has been trained yet">
            Open a device, choose Forecasts, and train one. <a href="#/devices">Devices</a>
          </Empty>
        ) : (
          <Empty title="No device of this name has a model" />
        ))}
      {data !== undefined && data.items.length > 0 && <ModelTable {...data} />}
      {data?.more === true && <p className="soft">More fit than are shown: type more of the name.</p>}
      {(pageNumber > 1 || next !== undefined) && (
        <nav className="pages" aria-label="Pages">
          <button type="button" disabled={pageNumber < 2} onClick={() => turn('previous')}>
            Previous
          </button>
          <span className="soft">Page {pageNumber}</span>
          <button type="button" disabled={next === undefined} onClick={() => next !== undefined && turn({ next })}>
            Next
          </button>
        </nav>
      )}
    </>
  )
}

function ModelTable({ items, issued }: Listed) {
  const { zone } = useSettings()
  return (
    <table className="list devices models">
      <thead>
        <tr>
          <th scope="col">Device and metric</th>
          <th scope="col">Model</th>
          <th scope="col">Skill</th>
          <th scope="col">Mean error</th>
          <th scope="col">Interval</th>
          <th scope="col">Drift</th>
          <th scope="col">Last issue</th>
        </tr>
      </thead>
      <tbody>
        {items.map((model) => {
          const { device, metric, version, kind, state, accuracy, created_at: created, unit } = model
          const at = issued.get(keyOf(device, metric))
          const since = accuracy?.drift.since ?? null
          return (
            <tr key={keyOf(device, metric)}>
              <th scope="row">
                <a href={hashOf(['devices', device], { view: 'forecasts', metric })}>
                  <Name of={device} />
                </a>
                <small className="soft">
                  <Name of={metric} />
                </small>
              </th>
              <td>
                {modelName(kind, model.card)}
                <small className="soft">
                  version {version} {stateNames[state]}, trained <Ago at={created} />
                </small>
              </td>
              <td data-label="Skill" className={accuracy?.skill !== undefined && accuracy.skill !== null && accuracy.skill < 0 ? 'bad' : undefined}>
                {skillFigure(accuracy?.skill ?? null, model.card)}
              </td>
              <td data-label="Mean error">{amount(accuracy?.mae ?? null, unit)}</td>
              <td data-label="Interval">
                {accuracy === null || accuracy.coverage === null ? '–' : `${percent(accuracy.coverage)} of ${percent(accuracy.level)}`}
              </td>
              <td data-label="Drift" className={since === null ? undefined : 'bad'}>
                {since === null ? 'none' : <Ago at={since} />}
              </td>
              <td data-label="Last issue">{at === undefined ? '–' : moment(Date.parse(at), zone)}</td>
            </tr>
          )
        })}
      </tbody>
    </table>
  )
}
