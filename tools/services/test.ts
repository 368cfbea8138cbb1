/**
 * npm run test:services [words]: the tests that need real engines. What does not run is started and stopped again; what runs stays.
 */
import { spawnSync } from 'node:child_process'
import process from 'node:process'
import { runningServices, services, startServices, stopServices } from './services.ts'

const before = new Set(runningServices().flatMap(({ name, running }) => (running === undefined ? [] : [name])))
let status: number | null = 1
try {
  const env = await startServices(services, (line) => void process.stdout.write(`${line}\n`))
  const args = ['tools/run-tests.js', '--services', ...process.argv.slice(2)]
  status = spawnSync(process.execPath, args, { stdio: 'inherit', env: { ...process.env, ...env } }).status
} catch (thrown) {
  process.stderr.write(`error: ${thrown instanceof Error ? thrown.message : String(thrown)}\n`)
} finally {
  await stopServices(
    services.filter(({ name }) => !before.has(name)),
    false,
  )
}
process.exitCode = status ?? 1
