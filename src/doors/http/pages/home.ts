import { escapeHtml, htmlPage } from './html.ts'

/** The start page: where things are, and the lines to send a first reading with. */
export function homePage(o: { readonly version: string; readonly host: string; readonly port: number; readonly mqttPort: number }): string {
  const plain = o.host.replace(/^::ffff:/, '')
  const host = plain.includes(':') ? `[${plain}]` : plain
  const send = `mosquitto_pub -h ${plain} -p ${o.mqttPort} -t portfolio/telemetry \\
  -m '{"device_id":"dev-1","temperature":25.5}'

curl http://${host}:${o.port}/ingest -H 'content-type: application/json' \\
  -d '{"device_id":"dev-1","temperature_c":25.5,"humidity":60}'`
  const read = `curl 'http://${host}:${o.port}/api/v1/latest?device=dev-1'
curl 'http://${host}:${o.port}/api/v1/query?device=dev-1&metric=temperature&from=-1h&format=csv'`
  const links: readonly (readonly [href: string, label: string, about: string])[] = [
    ['/docs', 'API reference', 'every route, with its parameters, answers and errors'],
    ['/openapi.json', 'OpenAPI 3.1 document', 'the same for programs'],
    ['/api/v1/latest', 'Latest readings', 'the last value of each series'],
    ['/api/v1/devices', 'Devices', 'who has sent, and what it says of itself'],
    ['/api/v1/dead-letters', 'Dead letters', 'what could not be used, and why'],
    ['/api/v1/status', 'Status', 'how the server is'],
    ['/metrics', 'Metrics', 'for Prometheus'],
  ]
  const row = (href: string, label: string, about: string): string =>
    `<tr><td><a href="${href}">${label}</a></td><td><code>${href}</code></td><td class="soft">${about}</td></tr>`
  return htmlPage(
    'Kymo',
    `
<h1>Kymo</h1><p class="soft">IoT telemetry: MQTT and HTTP in, a durable log, queries out. Version ${escapeHtml(o.version)}.</p>
<h2>Send a reading</h2><pre>${escapeHtml(send)}</pre>
<h2>Read it back</h2><pre>${escapeHtml(read)}</pre>
<h2>Look around</h2><table>${links.map(([href, label, about]) => row(href, label, about)).join('')}</table>`,
  )
}
