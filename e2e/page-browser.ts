import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { promisify } from 'node:util'
import puppeteer from 'puppeteer-core'
import type { Browser, Page } from 'puppeteer-core'
import { eventually } from '../test/support/api.ts'

export const root = path.resolve(import.meta.dirname, '..')
const chromium = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((file) => fs.existsSync(file))
export const reason =
  chromium === undefined ? 'chromium not installed' : fs.existsSync(path.join(root, 'node_modules/vite')) ? false : 'vite not installed'

/** What a page did that it must not do: errors in the console, requests to others. */
export interface Watched {
  readonly page: Page
  readonly wrong: string[]
}

export async function open(
  browser: Browser,
  base: string,
  o: { readonly width?: number; readonly dark?: boolean; readonly expect?: RegExp } = {},
): Promise<Watched> {
  // A context of its own: nothing is kept from one test to the next.
  const context = await browser.createBrowserContext()
  const page = await context.newPage()
  await page.setViewport({ width: o.width ?? 1280, height: 800 })
  if (o.dark === true) await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }])
  const wrong: string[] = []
  page.on('console', (message) => {
    // The tests read pixels; the page does not.
    if (message.text().includes('getImageData')) return
    if ((message.type() === 'error' || message.type() === 'warn') && o.expect?.test(message.text()) !== true) wrong.push(`console: ${message.text()}`)
  })
  page.on('pageerror', (error) => wrong.push(`error: ${String(error)}`))
  page.on('request', (request) => {
    if (!request.url().startsWith(base) && !/^(?:data|blob|about):/.test(request.url())) wrong.push(`request: ${request.url()}`)
  })
  return { page, wrong }
}

export async function text(page: Page, selector = 'main'): Promise<string> {
  return String(await page.evaluate(`document.querySelector(${JSON.stringify(selector)})?.innerText ?? ''`))
}

export function shows(page: Page, wanted: RegExp, selector = 'main', withinMs = 15_000): Promise<string> {
  return eventually(async () => {
    const found = await text(page, selector)
    if (!wanted.test(found)) throw new Error(`${String(wanted)} is not in ${selector}:\n${found}`)
    return found
  }, withinMs)
}

export async function click(page: Page, label: string): Promise<void> {
  await page
    .locator(`::-p-xpath(//main//*[self::button or self::a or self::summary or self::span][normalize-space()=${JSON.stringify(label)}])`)
    .click()
}

/** Pixels of a chart that differ from its corner. */
export const inkOf = (selector: string): string => `(() => {
  const canvas = document.querySelector(${JSON.stringify(`${selector} canvas`)})
  if (canvas === null || canvas.width === 0) return 0
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
  let ink = 0
  for (let i = 3; i < data.length; i += 4) if (data[i] > 0) ink++
  return ink
})()`

/** The page as its sources are now, and a browser to look at it with. */
export async function browserOfBuiltPage(): Promise<Browser> {
  await promisify(execFile)(process.execPath, ['tools/build-page.js', '--if-stale'], { cwd: root })
  return puppeteer.launch({ executablePath: chromium ?? '', args: ['--no-sandbox', '--disable-gpu'] })
}

/** A name, a view, how wide in pixels, and whether dark. */
type Picture = readonly [name: string, hash: string, width: number, dark: boolean]

/**
 * Each view as a PNG, when `ready` says that it is there. KYMO_SCREENSHOTS=folder keeps them; those of the documentation are of the same views.
 * Fails for a view that is wider than its window, or does what a page must not do.
 */
export async function takePictures(
  browser: Browser,
  base: string,
  pictures: readonly Picture[],
  ready: (page: Page, hash: string) => Promise<unknown>,
): Promise<void> {
  const wanted = process.env['KYMO_SCREENSHOTS']
  const folder = wanted === undefined ? fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-pictures-')) : path.resolve(root, wanted)
  for (const [name, hash, width, dark] of pictures) {
    const { page, wrong } = await open(browser, base, { width, dark })
    await page.goto(`${base}/${hash}`)
    await ready(page, hash)
    assert.equal(await widthOver(page), 0, `${name} is wider than its window`)
    const file = path.join(folder, `${name}.png`)
    await page.screenshot({ path: file })
    assert.ok(fs.statSync(file).size > 5_000, name)
    assert.deepEqual(wrong, [], name)
    await page.close()
  }
  if (wanted === undefined) fs.rmSync(folder, { recursive: true })
}

/** By how many pixels a page is wider than its window. */
export async function widthOver(page: Page): Promise<number> {
  return Number(await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth'))
}
