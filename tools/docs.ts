/**
 * Writes what comes from the code, the reference pages and the client's types: `npm run docs`. With `--check` it writes nothing and exits 1
 * when one of them is not what the code says.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { errorTable } from '../src/core/errors.ts'
import { configPage } from '../src/cli/reference/config-page.ts'
import { errorCodes, errorPage, errorsPage } from '../src/cli/reference/error-page.ts'
import { operationsSource, schemaSource } from './client.ts'
import type { Node } from './client-types.ts'
import { conformancePage } from '../test/mqtt/conformance/scan.ts'
import { open as openStatements } from '../test/mqtt/conformance/open.ts'
import { generated, limitsPage, metricsPage, type MetricSource } from './reference-pages.ts'

const root = path.resolve(import.meta.dirname, '..')
const folder = 'docs/reference'

/** Imported by path, so that a page whose source is missing fails by name and does not take the others along. */
async function call(file: string, name: string): Promise<unknown> {
  const module: unknown = await import(path.join(root, file))
  const made = (module as Readonly<Record<string, unknown>>)[name]
  if (typeof made !== 'function') throw new Error(`${file} exports no function ${name}`)
  return (made as () => unknown)()
}

function sources(): MetricSource[] {
  const files = readdirSync(path.join(root, 'src'), { recursive: true, encoding: 'utf8' })
  return files
    .filter((file) => file.endsWith('.ts'))
    .toSorted()
    .map((file) => ({ file: `src/${file}`, source: readFileSync(path.join(root, 'src', file), 'utf8') }))
}

const errorSources = 'src/core/errors.ts and src/cli/reference/error-guide.ts'

async function openApi(): Promise<Node> {
  return JSON.parse(JSON.stringify(await call('src/doors/http/openapi.ts', 'openApiDocument'))) as Node
}

const pages: Readonly<Record<string, () => Promise<string> | string>> = {
  'errors.md': () => errorsPage(generated(errorSources)),
  ...Object.fromEntries(errorCodes().map((code) => [`errors/${errorTable[code].id}.md`, () => errorPage(code, generated(errorSources))])),
  'limits.md': () => limitsPage(['limits.ts', 'limits-doors.ts'].map((file) => readFileSync(path.join(root, 'src/core', file), 'utf8'))),
  'config.md': () => configPage(generated('src/core/config.ts and src/core/config-aliases.ts')),
  'metrics.md': () => metricsPage(sources()),
  'bad-input.md': async () => `${String(await call('test/bad-input/table.ts', 'tableAsMarkdown')).trimEnd()}\n`,
  '../mqtt-conformance.md': () => conformancePage(generated('test/mqtt/conformance and names of tests'), openStatements),
  'openapi.json': async () => `${JSON.stringify(await openApi(), null, 2)}\n`,
  '../../src/client/schema.ts': async () => schemaSource(await openApi()),
  '../../src/client/operations.ts': async () => operationsSource(await openApi()),
}

const checking = process.argv.includes('--check')
const stale: string[] = []
mkdirSync(path.join(root, folder, 'errors'), { recursive: true })
for (const [name, make] of Object.entries(pages)) {
  const file = path.join(root, folder, name)
  const shown = path.posix.join(folder, name)
  try {
    const text = await make()
    const same = existsSync(file) && readFileSync(file, 'utf8') === text
    if (same) continue
    if (checking) stale.push(`${shown} is not what the code says`)
    else {
      writeFileSync(file, text)
      process.stdout.write(`wrote ${shown}\n`)
    }
  } catch (error) {
    stale.push(`${shown} cannot be made: ${error instanceof Error ? error.message : String(error)}`)
  }
}
// A page whose error is gone would say what is not so.
for (const name of readdirSync(path.join(root, folder, 'errors'))) {
  if (`errors/${name}` in pages) continue
  if (checking) stale.push(`${folder}/errors/${name} is of no error that there is`)
  else rmSync(path.join(root, folder, 'errors', name))
}
for (const line of stale) process.stderr.write(`error: ${line}\n`)
if (checking && stale.length > 0) process.stderr.write('  Run npm run docs and commit what it writes.\n')
else process.stdout.write(`docs: ${Object.keys(pages).length - stale.length} of ${Object.keys(pages).length} generated pages are up to date\n`)
// A door's module may hold handles open; the pages are written by now.
process.exit(stale.length > 0 ? 1 : 0)
