import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Browser, Page } from 'puppeteer-core'
import { eventually, settled } from '../test/support/api.ts'
import { RunningServer } from '../test/support/server.ts'
import { dailySeries } from '../test/support/synthetic-series.ts'
import { browserOfBuiltPage, click, inkOf, open, reason, shows, takePictures, text } from './page-browser.ts'

const hourMs = 3_600_000
/** What is trained on, and what comes after it: two days, so that whole forecasts mature. */
const hoursBefore = 28 * 24
const hoursAfter = 48
/** Two loaded cores and a training in a process of its own. */
const patienceMs = 90_000

/** Two seconds and more of this machine each. */
const slowKinds = ['gradient-boosting', 'random-forest', 'lstm']

/** What an address must escape. */
const oddName = 'a/b %2F?x=<i>ä'

const device = 'greenhouse'
const metric = 'temperature'
const panel = `[data-metric=${metric}]`
const view = `#/devices/${device}?view=forecasts&metric=${metric}`
const pictures = [
  ['forecast-light', `${view}&lead=6`, 1280, false],
  ['forecast-dark', `${view}&lead=6`, 1280, true],
  ['forecast-390-dark', view, 390, true],
  ['models-light', '#/models', 1280, false],
] as const

describe('forecasts in the page', { skip: reason }, () => {
  let browser: Browser
  let server: RunningServer
  const endMs = Math.floor(Date.now() / hourMs) * hourMs
  const values = dailySeries(hoursBefore + hoursAfter, 7).values
  /** Hours of the series from the first to before the second: the last of all is the hour before now. */
  const send = async (from: number, to: number, of = device): Promise<void> => {
    const items = Array.from(values.subarray(from, to), (value, i) => ({
      device: of,
      time: new Date(endMs - (values.length - from - i) * hourMs).toISOString(),
      values: { [metric]: Number(value.toFixed(3)), mode: 'auto' },
      units: { [metric]: '°C' },
    }))
    await post('/api/v1/telemetry', items)
    await settled(server.http)
  }
  const post = async (route: string, body: unknown): Promise<void> => {
    const answer = await fetch(server.http + route, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
    assert.equal(answer.status, 202, await answer.text())
  }
  const get = async (route: string): Promise<unknown> => (await fetch(server.http + route)).json()
  const choose = async (page: Page, kind: string): Promise<void> => void (await page.select(`${panel} .training select`, kind))
  /** As by the keyboard, wherever it stands at the moment: charts that come move what is below them, and the question goes away after some seconds. */
  const press = async (page: Page, label: string): Promise<void> => {
    const found = `//main//button[normalize-space()=${JSON.stringify(label)}]`
    await page.waitForSelector(`::-p-xpath(${found})`)
    await page.evaluate(`document.evaluate(${JSON.stringify(found)}, document, null, XPathResult.FIRST_ORDERED_NODE_TYPE).singleNodeValue.click()`)
  }

  before(async () => {
    browser = await browserOfBuiltPage()
    server = await RunningServer.start({ env: { KYMO_FORECAST_POLL_S: '1', KYMO_FORECAST_RETRAIN: '0' } })
  })
  after(async () => {
    await browser?.close()
    await server?.dispose()
  })

  it('too few readings: how many are missing; text is not forecast', async () => {
    await post('/api/v1/telemetry', [
      { device: 'new-1', time: new Date(endMs - 2 * hourMs).toISOString(), values: { heat: 20 } },
      { device: 'wordy-1', values: { note: 'hello' } },
      { device: oddName, time: new Date(endMs - 2 * hourMs).toISOString(), values: { [oddName]: 20 } },
    ])
    await settled(server.http)
    const { page, wrong } = await open(browser, server.http, { expect: /409/ })
    await page.goto(`${server.http}/#/devices/new-1?view=forecasts`)
    await shows(page, /Too little data to forecast\s+(?:One more step of readings is|\d+ more steps of readings are) needed/)
    const odd = encodeURIComponent(oddName)
    await page.goto(`${server.http}/#/devices/${odd}?view=forecasts&metric=${odd}`)
    await shows(page, /Only .*ä[\s\S]*Too little data to forecast/)
    await page.goto(`${server.http}/#/devices/wordy-1?view=forecasts`)
    await shows(page, /Nothing here can be forecast/)
    assert.deepEqual(wrong, [])
  })

  it('seasonal naive answers until the button has trained a model; then past predictions stand beside what was measured', async () => {
    await send(0, hoursBefore)
    const { page, wrong } = await open(browser, server.http)
    await page.goto(`${server.http}/#/devices/${device}`)
    await click(page, 'Forecasts')
    await shows(page, /Seasonal naive answers[\s\S]*nobody has trained a model[\s\S]*Model\s+seasonal naive[\s\S]*Versions \(0\)/, panel)
    await eventually(async () => (Number(await page.evaluate(inkOf(panel))) > 2_000 ? true : undefined))
    await choose(page, 'ridge')
    await click(page, 'Train')
    await shows(page, /Model\s+ridge, version 1[\s\S]*A new version was trained[\s\S]*Versions \(1\)/, panel, patienceMs)
    assert.doesNotMatch(await text(page, panel), /Seasonal naive answers/)
    const label = String(await page.evaluate(`document.querySelector('${panel} .chart').getAttribute('aria-label')`))
    assert.match(label, /temperature: forecast for 24 h, from [\d.]+ °C to [\d.]+ °C/)
    // The two days that follow: each hour is forecast from the hours before it, and held against what came.
    await send(hoursBefore, values.length)
    const matured = await eventually(async () => {
      const { n, coverage } = (await get(`/api/v1/forecasts/${device}/${metric}/accuracy`)) as { n: number; coverage: number | null }
      return n >= 24 * 24 && coverage !== null ? { n, coverage } : undefined
    }, patienceMs)
    await page.reload()
    const figures = await shows(page, /Mean error\s+[\d.]+ °C of [\d,]+ predictions\s+Doing nothing\s+[\d.]+ °C/, panel)
    assert.match(figures, /Skill lately\s+\d+ % less error than doing nothing/)
    assert.match(figures, new RegExp(`Interval\\s+${Math.round(matured.coverage * 100)} % delivered of 90 % promised`))
    assert.match(figures, /Drift\s+none/)
    assert.match(figures, /\d+ of the \d+ steps shown \(\d+ %\) were measured within the interval that was predicted 1 h ahead/)
    await click(page, '24 h ahead')
    await shows(page, /was predicted 24 h ahead/, panel)
    await click(page, 'As a table')
    await shows(page, /Time\s+Measured\s+Predicted\s+Lower\s+Upper\s+[\d-]+ [\d:]+\s+–\s+\d/, panel)
    assert.deepEqual(wrong, [])
  })

  it('will it cross? A probability with how such numbers have held, or why there is none', async () => {
    const { page, wrong } = await open(browser, server.http)
    await page.goto(`${server.http}/${view}`)
    await shows(page, /ridge, version 1/, panel)
    await click(page, 'Will it cross a threshold?')
    await page.waitForSelector('input[name=threshold]')
    await page.type('input[name=threshold]', '24')
    await click(page, 'Ask')
    await shows(page, /likely to go above 24 °C within 6 h|No skill|Too little data|across already/, panel)
    assert.deepEqual(wrong, [])
  })

  it('a training that somebody else began is seen, after a reload too, and can be cancelled', async () => {
    // It takes so long that there is time for both, however slow this machine is: other series go first, with slow kinds.
    const attics = Array.from({ length: 8 }, (_, i) => `attic-${i}`)
    for (const one of attics) await send(0, values.length, one)
    await post('/api/v1/models/train', { series: [...attics, device].map((one) => ({ device: one, metric })), kinds: slowKinds })
    const { page, wrong } = await open(browser, server.http)
    await page.goto(`${server.http}/${view}`)
    await page.waitForSelector(`${panel} progress`)
    await shows(page, /Training · \d of 9 series/, panel)
    await page.reload()
    await page.waitForSelector(`${panel} progress`)
    await press(page, 'Cancel')
    await press(page, 'Cancel the training?')
    await shows(page, /The training was cancelled/, panel, patienceMs)
    await shows(page, /Versions \(1\)/, panel)
    assert.deepEqual(wrong, [])
  })

  it('versions: a challenger is promoted', async () => {
    const { page, wrong } = await open(browser, server.http)
    await page.goto(`${server.http}/${view}`)
    await shows(page, /Versions \(1\)/, panel)
    await choose(page, 'holt-winters')
    await click(page, 'Train')
    await shows(page, /Versions \(2\)/, panel, patienceMs)
    await click(page, 'Versions (2)')
    const before = await shows(page, /2\s+Holt–Winters\s+(?:serves|challenger)[\s\S]*1\s+ridge\s+(?:serves|retired)/, panel)
    const other = /2\s+Holt–Winters\s+serves/.test(before) ? 1 : 2
    await click(page, 'Promote')
    await click(page, `Let ${other} serve?`)
    await shows(page, new RegExp(`${other}\\s+\\S+\\s+serves`), panel)
    await shows(page, new RegExp(`version ${other}\\b`), panel)
    assert.deepEqual(wrong, [])
  })

  it('models of all devices: listed, searched, linked', async () => {
    const { page, wrong } = await open(browser, server.http)
    await page.goto(`${server.http}/`)
    await page.locator('nav a[href="#/models"]').click()
    await shows(page, /greenhouse\s+temperature\s+\S+\s+version \d serves, trained/)
    await page.type('input[type=search]', 'nobody')
    await shows(page, /No device of this name has a model/)
    await page.goto(`${server.http}/#/models?search=GREEN`)
    await page.reload()
    await shows(page, /greenhouse\s+temperature/)
    await page.locator('tbody a').click()
    await shows(page, /Only temperature[\s\S]*Versions \(2\)/)
    assert.deepEqual(wrong, [])
  })

  it('is kept in pictures, none wider than its window', async () => {
    await takePictures(browser, server.http, pictures, async (page, hash) => {
      await shows(page, /serves|Skill lately/)
      if (hash.includes('forecasts')) await eventually(async () => (Number(await page.evaluate(inkOf(panel))) > 2_000 ? true : undefined))
    })
  })
})
