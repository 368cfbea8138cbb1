import { htmlPage } from './html.ts'

/** In place of the page where nothing is built: what to do, and what there is all the same. */
export function missingPage(): string {
  return htmlPage(
    'Kymo: the page is not built',
    `
<h1>The page is not built</h1>
<p class="soft">Everything else works: MQTT, HTTP, the store, queries. Only the files of this page are missing (<code>dist/page</code>).</p>
<h2>Build it</h2>
<p>In the folder of Kymo, then load this page again; the server need not be restarted:</p>
<pre>npm ci --include=dev
npm run build:page</pre>
<h2>Meanwhile</h2>
<p><a href="/docs">API reference</a> · <a href="/api/v1/devices">devices</a> · <a href="/api/v1/latest">latest readings</a> ·
<a href="/api/v1/status">status</a> · <a href="/metrics">metrics</a></p>`,
  )
}
