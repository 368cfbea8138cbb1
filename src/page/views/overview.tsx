import type { ReactNode } from 'react'
import { bytes, duration, figure } from '../format.ts'
import type { Look } from '../history.ts'
import { Ago, PageHead } from '../parts/common.tsx'
import { Sparkline } from '../parts/sparkline.tsx'
import { useServer } from '../server.tsx'

type Figure = 'messagesPerS' | 'readingsPerS' | 'active' | 'lagMs' | 'storageBytes' | 'deadLetters'

function Tile(o: {
  readonly title: string
  readonly value: string
  readonly unit?: string
  readonly about: ReactNode
  readonly of: Figure
  readonly looks: readonly Look[]
  readonly href?: string
  readonly warn?: boolean
}) {
  const { title, value, unit, about, of, looks, href, warn = false } = o
  return (
    <article className="tile" data-figure={of}>
      <h2>{href === undefined ? title : <a href={href}>{title}</a>}</h2>
      <p className={warn ? 'value bad' : 'value'}>
        {value}
        {unit !== undefined && <span className="unit">{unit}</span>}
      </p>
      <p className="about">{about}</p>
      <Sparkline
        time={looks.map(({ atMs }) => atMs)}
        values={looks.map((look) => look[of])}
        label={`${title} in the last five minutes; now ${value} ${unit ?? ''}`}
      />
    </article>
  )
}

/** Rates jump from look to look: what is told is the mean of the last five. */
function recent(looks: readonly Look[], of: 'messagesPerS' | 'readingsPerS'): number {
  const some = looks
    .slice(-5)
    .map((look) => look[of])
    .filter((value) => value !== null)
  return some.length === 0 ? Number.NaN : some.reduce((sum, value) => sum + value, 0) / some.length
}

/** A store that follows is some hundred milliseconds behind: it gathers commits. */
const lagWarnMs = 10_000

export function OverviewView() {
  const { data: status, looks } = useServer()
  if (status === undefined) return null
  const lagMs = looks.at(-1)?.lagMs ?? 0
  const { log_bytes: log, store_bytes: store, quota_bytes: quota } = status.storage
  const behind = status.lag.find(({ group }) => group === 'store')
  const records = behind === undefined ? 0n : BigInt(behind.end) - BigInt(behind.committed)
  const silent = Math.max(0, status.devices - status.devices_active)
  const failing = status.components.filter(({ ok }) => !ok)
  return (
    <>
      <PageHead title="Overview">
        <span className={status.ready ? 'state good' : 'state bad'}>
          {status.ready ? 'All parts work' : status.draining ? 'Shutting down' : 'Not ready'}
        </span>
      </PageHead>
      {failing.map(({ name, detail }) => (
        <div key={name} className="problem" role="alert">
          <strong>{name}</strong>
          <p>{detail ?? 'does not work'}</p>
        </div>
      ))}
      <section className="tiles" aria-label="Figures">
        <Tile
          title="Messages"
          value={figure(recent(looks, 'messagesPerS'))}
          unit="/s"
          about={`${figure(status.messages_total)} since the start`}
          of="messagesPerS"
          looks={looks}
        />
        <Tile
          title="Readings"
          value={figure(recent(looks, 'readingsPerS'))}
          unit="/s"
          about={`${figure(status.readings_total)} since the start`}
          of="readingsPerS"
          looks={looks}
        />
        <Tile
          title="Devices"
          value={figure(status.devices)}
          about={
            <>
              <span className="whole">{figure(status.devices_active)} active</span>
              <span className="sep">·</span>
              <span className="whole">{figure(silent)} silent for 5 min</span>
            </>
          }
          of="active"
          looks={looks}
          href="#/devices"
        />
        <Tile
          title="Store lag"
          value={duration(lagMs).split(' ')[0] ?? ''}
          unit={duration(lagMs).split(' ')[1] ?? ''}
          about={records === 1n ? '1 record waits in the log' : `${figure(Number(records))} records wait in the log`}
          of="lagMs"
          looks={looks}
          warn={lagMs > lagWarnMs}
        />
        <Tile
          title="Storage"
          value={bytes(log + store).split(' ')[0] ?? ''}
          unit={bytes(log + store).split(' ')[1] ?? ''}
          about={
            <>
              <span className="whole">store {bytes(store)}</span>
              <span className="sep">·</span>
              <span className="whole">
                log {bytes(log)}
                {quota !== undefined && ` of ${bytes(quota)}`}
              </span>
            </>
          }
          of="storageBytes"
          looks={looks}
          warn={quota !== undefined && log + store > quota * 0.9}
        />
        <Tile
          title="Dead letters"
          value={figure(status.dead_letters_waiting)}
          about={['nothing waits for you', 'waits for a fix'][status.dead_letters_waiting] ?? 'wait for a fix'}
          of="deadLetters"
          looks={looks}
          href="#/dead-letters"
          warn={status.dead_letters_waiting > 0}
        />
      </section>
      <section className="columns">
        <div className="panel">
          <h2>Consumers of the log</h2>
          <table className="facts">
            <thead>
              <tr>
                <th scope="col">Consumer</th>
                <th scope="col" className="num">
                  Records behind
                </th>
                <th scope="col" className="num">
                  Oldest waits since
                </th>
              </tr>
            </thead>
            <tbody>
              {status.lag.map(({ group, partition, committed, end, oldest }) => (
                <tr key={`${group} ${partition}`}>
                  <th scope="row">{group}</th>
                  <td className="num">{figure(Number(BigInt(end) - BigInt(committed)))}</td>
                  <td className="num">{oldest === null || committed === end ? '–' : <Ago at={oldest} />}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        <div className="panel">
          <h2>Server</h2>
          <dl className="facts">
            <dt>Version</dt>
            <dd>{status.version}</dd>
            <dt>Started</dt>
            <dd>
              <Ago at={status.started_at} />
            </dd>
            <dt>MQTT</dt>
            <dd>{status.mqtt_port === null ? 'not at this process' : `${figure(status.mqtt_connections)} connected, port ${status.mqtt_port}`}</dd>
            <dt>Series</dt>
            <dd>{figure(status.series)}</dd>
            <dt>Refused since the start</dt>
            <dd>{figure(status.rejected_total)}</dd>
            <dt>Data</dt>
            <dd className="wrap">{status.data_dir}</dd>
          </dl>
        </div>
      </section>
    </>
  )
}
