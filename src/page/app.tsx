import { useEffect, useRef, useState } from 'react'
import type { ReactNode } from 'react'
import { currentAccess, setToken } from './api.ts'
import { localZone } from './format.ts'
import type { Zone } from './format.ts'
import { useAccess } from './hooks.ts'
import { Choice, Empty, Loading, Problem } from './parts/common.tsx'
import { hashOf, parseHash, useHash } from './route.ts'
import type { Route } from './route.ts'
import { ServerProvider, useServer } from './server.tsx'
import { changeSettings, useSettings } from './settings.ts'
import type { Theme } from './settings.ts'
import { DeadLettersView } from './views/dead-letters.tsx'
import { DeviceView } from './views/device.tsx'
import { DevicesView } from './views/devices.tsx'
import { ModelsView } from './views/models.tsx'
import { OverviewView } from './views/overview.tsx'
import { SignIn } from './views/sign-in.tsx'
import { StartView } from './views/start.tsx'

const places: readonly (readonly [path: string, title: string])[] = [
  ['', 'Overview'],
  ['devices', 'Devices'],
  ['models', 'Models'],
  ['dead-letters', 'Dead letters'],
  ['start', 'Get started'],
]

const zones: readonly (readonly [Zone, string])[] = [
  ['local', 'Local'],
  ['utc', 'UTC'],
]
const themes: readonly (readonly [Theme, string])[] = [
  ['auto', 'Auto'],
  ['light', 'Light'],
  ['dark', 'Dark'],
]

export function App() {
  const { refused, token } = useAccess()
  if (refused !== undefined) return <SignIn reason={refused} />
  return (
    <ServerProvider key={token ?? ''}>
      <Shell />
    </ServerProvider>
  )
}

function Shell() {
  const route = parseHash(useHash())
  const { data, error } = useServer()
  const main = useRef<HTMLElement>(null)
  const path = route.path.join('/')
  const before = useRef(path)
  const place = route.path[0] ?? ''
  useEffect(() => {
    const title = route.path[1] ?? places.find(([name]) => name === place)?.[1] ?? 'Not found'
    document.title = `${title} · Kymo`
    // Who uses the keyboard goes on from the top of the new view.
    if (before.current !== path) main.current?.focus()
    before.current = path
  })
  return (
    <>
      <a
        className="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault()
          main.current?.focus()
        }}
      >
        Skip to content
      </a>
      <div className="shell">
        <nav className="side" aria-label="Main">
          <a className="brand" href="#/">
            <Mark /> Kymo
          </a>
          <ul>
            {places.map(([name, title]) => (
              <li key={name}>
                <a href={hashOf(name === '' ? [] : [name])} aria-current={name === place ? 'page' : undefined}>
                  {title}
                  {name === 'dead-letters' && (data?.dead_letters_waiting ?? 0) > 0 && <span className="badge">{data?.dead_letters_waiting}</span>}
                </a>
              </li>
            ))}
            <li>
              <a href="/docs">API reference</a>
            </li>
          </ul>
          <Preferences />
        </nav>
        <main id="main" ref={main} tabIndex={-1}>
          {error !== undefined && data !== undefined && (
            <div className="banner" role="status">
              The server does not answer at the moment. What is shown is as it was.
            </div>
          )}
          <View route={route} />
        </main>
      </div>
    </>
  )
}

function View({ route }: { readonly route: Route }): ReactNode {
  const { data, error, again } = useServer()
  const [place = '', name] = route.path
  if (data === undefined) return error === undefined ? <Loading /> : <Problem error={error} again={again} />
  if (place === '') return <Home empty={data.devices === 0 && data.messages_total === 0} />
  if (place === 'start') return <StartView />
  if (place === 'models') return <ModelsView route={route} />
  if (place === 'dead-letters') return <DeadLettersView />
  if (place === 'devices') return name === undefined ? <DevicesView route={route} /> : <DeviceView key={name} id={name} route={route} />
  return (
    <Empty title="There is no such view">
      <a href="#/">Go to the overview</a>
    </Empty>
  )
}

/** Who came to an empty server stays with the first message that arrives, instead of being led away from it. */
function Home({ empty }: { readonly empty: boolean }) {
  const [start] = useState(empty)
  return start ? <StartView /> : <OverviewView />
}

function Preferences() {
  const { theme, zone } = useSettings()
  return (
    <div className="preferences">
      <Choice
        label={`Times are shown in (local is ${localZone})`}
        options={zones}
        value={zone}
        onChange={(value) => changeSettings({ zone: value })}
      />
      <Choice label="Colours" options={themes} value={theme} onChange={(value) => changeSettings({ theme: value })} />
      {currentAccess().token !== undefined && (
        <button type="button" className="quiet" onClick={() => setToken(undefined)}>
          Sign out
        </button>
      )}
    </div>
  )
}

function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="20" height="20" aria-hidden="true">
      <rect width="32" height="32" rx="7" fill="var(--brand)" />
      <path d="M4 18h5l3-9 5 15 4-10 2 4h5" fill="none" stroke="#fff" strokeWidth="2.6" strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  )
}
