/**
 * The engines that a deployment of several machines runs on, for tests, without containers: PostgreSQL with a standby, Kafka, Mosquitto.
 *
 *   npm run services                      starts what is not running and prints where it is
 *   npm run services -- status            the same without starting anything
 *   npm run services -- stop              stops what was started here; data stays
 *   npm run services -- stop --purge      … and removes it
 *
 * Behind each command, names choose some of them: npm run services -- start postgres. All of it lives below .services/, on ports of its own.
 */
import process from 'node:process'
import { parseArgs } from 'node:util'
import { services, startServices, stopServices, runningServices } from './services.ts'

const { values, positionals } = parseArgs({ allowPositionals: true, options: { purge: { type: 'boolean', default: false } } })
const [command = 'start', ...names] = positionals
const unknown = names.find((name) => !services.some((one) => one.name === name))
const chosen = services.filter((one) => names.length === 0 || names.includes(one.name))

if (unknown !== undefined || !['start', 'stop', 'status'].includes(command)) {
  process.stderr.write(
    `${unknown ?? command} is none of them. Use: start, stop or status, then any of ${services.map((one) => one.name).join(', ')}\n`,
  )
  process.exit(2)
}
if (command === 'stop') await stopServices(chosen, values.purge)
if (command === 'start') await startServices(chosen, (line) => void process.stderr.write(`${line}\n`))
for (const { name, running } of runningServices(chosen)) {
  if (running === undefined) process.stderr.write(`${name}: not running\n`)
  else for (const [key, value] of Object.entries(running.env)) process.stdout.write(`export ${key}=${value}\n`)
}
