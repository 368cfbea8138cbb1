import { useState } from 'react'
import type { Device, Reading } from '../api.ts'
import { clipped, figure, reading as readingText, visible } from '../format.ts'
import { useAsk, useNow, useSettled, useTrail } from '../hooks.ts'
import { latestOf } from '../latest.ts'
import { Ago, Empty, Loading, Name, PageHead, Problem } from '../parts/common.tsx'
import { Search } from '../parts/search.tsx'
import { go, hashOf } from '../route.ts'
import type { Route } from '../route.ts'
import { useServer } from '../server.tsx'

const pageRows = 25
const valuesShown = 4
/** As the server counts its active devices. */
const activeMs = 5 * 60_000

export function StateOf({ device }: { readonly device: Device }) {
  const now = useNow(5_000)
  const heard = device.last_seen !== null && now - Date.parse(device.last_seen) < activeMs
  const text = device.last_seen === null ? 'never heard' : heard ? 'active' : 'silent'
  // The registry's own word, where somebody has set it.
  return (
    <>
      <span className={heard ? 'state good' : 'state'}>{text}</span>
      {device.status !== 'active' && device.status !== '' && <span className="tag">{visible(device.status)}</span>}
    </>
  )
}

export function DevicesView({ route }: { readonly route: Route }) {
  const search = route.query.get('search') ?? ''
  const [typed, setTyped] = useState(search)
  const asked = useSettled(typed.trim(), 250)
  const { cursor, page: pageNumber, turn } = useTrail(asked)
  const { data: status } = useServer()
  const list = useAsk(
    `devices ${asked} ${cursor ?? ''}`,
    async (api, signal) => {
      const page = await api.devices.list({ limit: pageRows, cursor, search: asked === '' ? undefined : asked }, { signal })
      const latest = await latestOf(
        api,
        page.items.map(({ id }) => id),
        signal,
      )
      return { page, latest }
    },
    { everyMs: 4_000 },
  )
  const { data, error } = list
  const change = (text: string): void => {
    setTyped(text)
    go(hashOf(['devices'], { search: text.trim() === '' ? undefined : text.trim() }), { replace: true })
  }
  const next = data?.page.next_cursor ?? undefined
  return (
    <>
      <PageHead title="Devices">
        {status !== undefined && (
          <span className="soft">
            {figure(status.devices)} in all, {figure(status.devices_active)} active
          </span>
        )}
      </PageHead>
      <Search by="by id or name" value={typed} onChange={change} />
      {error !== undefined && <Problem error={error} again={list.again} />}
      {data === undefined && error === undefined && <Loading />}
      {data !== undefined && data.page.items.length === 0 && <Nothing search={asked} />}
      {data !== undefined && data.page.items.length > 0 && (
        <>
          <table className="list devices">
            <thead>
              <tr>
                <th scope="col">Device</th>
                <th scope="col">State</th>
                <th scope="col">Last seen</th>
                <th scope="col">Latest values</th>
              </tr>
            </thead>
            <tbody>
              {data.page.items.map((device) => (
                <tr key={device.id}>
                  <th scope="row" data-label="Device">
                    <a href={hashOf(['devices', device.id])}>
                      <Name of={device.id} />
                    </a>
                    {device.name !== '' && device.name !== device.id && (
                      <small className="soft">
                        <Name of={device.name} />
                      </small>
                    )}
                  </th>
                  <td data-label="State">
                    <StateOf device={device} />
                  </td>
                  <td data-label="Last seen">
                    <Ago at={device.last_seen} />
                  </td>
                  <td data-label="Latest values">
                    <Values of={data.latest.get(device.id) ?? []} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
          <nav className="pages" aria-label="Pages">
            <button type="button" disabled={pageNumber < 2} onClick={() => turn('previous')}>
              Previous
            </button>
            <span className="soft">
              {figure((pageNumber - 1) * pageRows + 1)} to {figure((pageNumber - 1) * pageRows + data.page.items.length)}
            </span>
            <button type="button" disabled={next === undefined} onClick={() => next !== undefined && turn({ next })}>
              Next
            </button>
          </nav>
        </>
      )}
    </>
  )
}

function Nothing({ search }: { readonly search: string }) {
  if (search === '') {
    return (
      <Empty title="No device has sent anything yet">
        One registers itself with its first message. <a href="#/start">Send one now</a>
      </Empty>
    )
  }
  return <Empty title="No device is called that">The search looks for “{visible(search)}” anywhere in ids and names, whatever the case.</Empty>
}

function Values({ of }: { readonly of: readonly Reading[] }) {
  if (of.length === 0) return <span className="soft">–</span>
  return (
    <ul className="values">
      {of.slice(0, valuesShown).map(({ metric, value, unit }) => (
        <li key={metric}>
          <span className="soft">
            <Name of={metric} />
          </span>{' '}
          <b>
            {clipped(readingText(value), 40)}
            {unit !== undefined && ` ${visible(unit)}`}
          </b>
        </li>
      ))}
      {of.length > valuesShown && <li className="soft">+{of.length - valuesShown}</li>}
    </ul>
  )
}
