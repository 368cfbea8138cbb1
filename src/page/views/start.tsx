import { useId, useState } from 'react'
import type { Reading } from '../api.ts'
import { moment, reading as readingText } from '../format.ts'
import { useLive } from '../hooks.ts'
import { Command, Name, PageHead } from '../parts/common.tsx'
import { hashOf } from '../route.ts'
import { useServer } from '../server.tsx'
import { useSettings } from '../settings.ts'

interface Arrived {
  readonly device: string
  readonly readings: readonly Reading[]
}

/** What may stand between quotes of a shell, and is a good id. */
const idPattern = '[A-Za-z0-9._:-]{1,128}'

export function StartView() {
  const { data: status } = useServer()
  const { zone } = useSettings()
  const [typed, setTyped] = useState('dev-1')
  const [arrived, setArrived] = useState<Arrived>()
  const field = useId()
  const valid = new RegExp(`^${idPattern}$`).test(typed)
  const device = valid ? typed : 'dev-1'
  // Where others send already, only what these lines send is news.
  const [alone] = useState(() => status?.devices === 0)
  const live = useLive(alone ? undefined : device, (event) => {
    if (event.type !== 'readings' || arrived !== undefined) return
    const first = event.readings[0]
    if (first !== undefined) setArrived({ device: first.device, readings: event.readings.filter((one) => one.device === first.device) })
  })
  const { hostname, host, protocol } = window.location
  const mqttHost = hostname.replace(/^\[|\]$/g, '')
  const secure = status !== undefined && status.mqtt_port !== null && status.mqtts_port === status.mqtt_port
  const port = status === undefined || status.mqtt_port === (secure ? 8883 : 1883) ? '' : ` -p ${status.mqtt_port}`
  const trust = secure ? ' --tls-use-os-certs' : ''
  const token = status?.auth === 'token'
  const origin = protocol === 'https:' ? `https://${host}` : host
  const mqtt = `mosquitto_pub -h ${mqttHost}${port}${trust}${token ? ' -u kymo -P "$KYMO_TOKEN"' : ''} -t portfolio/telemetry \\
  -m '{"device_id":"${device}","temperature":25.5}'`
  const curl = `curl ${origin}/ingest${token ? ' -H "authorization: Bearer $KYMO_TOKEN"' : ''} -H 'content-type: application/json' \\
  -d '{"device_id":"${device}","temperature_c":25.5,"humidity":60}'`
  const query = `curl '${origin}/api/v1/query?device=${device}&from=-1h'${token ? ' -H "authorization: Bearer $KYMO_TOKEN"' : ''}`
  return (
    <>
      <PageHead title="Get started" />
      <p className="lead">
        Send a reading by MQTT or HTTP. A device that is not known yet registers itself; any flat or nested JSON object is a message.
      </p>
      <div className="start">
        <div>
          <div className="field">
            <label htmlFor={field}>Device id</label>
            <input
              id={field}
              value={typed}
              pattern={idPattern}
              maxLength={128}
              spellCheck={false}
              autoComplete="off"
              onChange={(event) => {
                setTyped(event.target.value)
                setArrived(undefined)
              }}
            />
            {!valid && <small role="alert">Letters, digits and . _ : - up to 128.</small>}
          </div>
          {status?.mqtt_port === null ? (
            <p className="soft">This process has no MQTT door: another one of this deployment has.</p>
          ) : (
            <Command title="By MQTT" text={mqtt} />
          )}
          <Command title="By HTTP" text={curl} />
          <Command title="Read it back" text={query} />
          {token && (
            <p className="soft">
              This server asks for a token: <code>export KYMO_TOKEN=tk_…</code> first.
            </p>
          )}
        </div>
        <section className={arrived === undefined ? 'panel wait' : 'panel arrived'} aria-live="polite" aria-label="Your first message">
          {arrived === undefined ? (
            <>
              <span className="pulse" aria-hidden="true" />
              <h2>Waiting for your first message</h2>
              <p className="soft">
                {alone ? 'From any device.' : `From the device ${device}.`} It appears here as soon as it is durable.
                {live === 'lost' && ' The live stream is interrupted; trying again.'}
              </p>
            </>
          ) : (
            <>
              <h2>
                It is here: <Name of={arrived.device} />
              </h2>
              <p className="soft">Durable, and queryable from now on.</p>
              <table className="facts">
                <tbody>
                  {arrived.readings.map((one) => (
                    <tr key={`${one.metric} ${one.time}`}>
                      <th scope="row">
                        <Name of={one.metric} />
                      </th>
                      <td className="num">{readingText(one.value)}</td>
                      <td className="soft num">{moment(Date.parse(one.time), zone)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
              <p className="row">
                <a className="button main" href={hashOf(['devices', arrived.device])}>
                  Open the device
                </a>
                <button type="button" onClick={() => setArrived(undefined)}>
                  Wait for another
                </button>
              </p>
            </>
          )}
        </section>
      </div>
    </>
  )
}
