/**
 * npm run test:services [-- words]: the tests that need real engines. What does not run is started and stopped again; what runs stays. Words choose
 * files, as for npm test; those that name an engine have only such engines started.
 */
import { spawnSync } from 'node:child_process'
import process from 'node:process'
import { runningServices, services, startServices, stopServices } from './services.ts'

const words = process.argv.slice(2)
const named = services.filter(({ name }) => words.includes(name))
const chosen = named.length === 0 ? services : named
const before = new Set(runningServices().flatMap(({ name, running }) => (running === undefined ? [] : [name])))
let status: number | null = 1
try {
  const env = await startServices(chosen, (line) => void process.stdout.write(`${line}\n`))
  const args = ['tools/run-tests.js', '--services', ...words]
  status = spawnSync(process.execPath, args, { stdio: 'inherit', env: { ...process.env, ...env } }).status
} catch (thrown) {
  process.stderr.write(`error: ${thrown instanceof Error ? thrown.message : String(thrown)}\n`)
} finally {
  await stopServices(
    chosen.filter(({ name }) => !before.has(name)),
    false,
  )
}
process.exitCode = status ?? 1
