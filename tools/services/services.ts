import fs from 'node:fs'
import path from 'node:path'
import { kafka } from './kafka.ts'
import { mosquitto } from './mosquitto.ts'
import { postgres } from './postgres.ts'
import { isRunning } from './process.ts'
import type { Running, Service } from './service.ts'

export const services: readonly Service[] = [postgres, kafka, mosquitto]

const root = new URL('../../.services/', import.meta.url).pathname
const folderOf = ({ name }: Service): string => path.join(root, name)
const stateOf = (service: Service): string => path.join(folderOf(service), 'running.json')

/** What of a service is running that was started here; undefined: not all of it. */
function runningOf(service: Service): Running | undefined {
  try {
    const running = JSON.parse(fs.readFileSync(stateOf(service), 'utf8')) as Running
    return Object.values(running.processes).every(isRunning) ? running : undefined
  } catch {
    return undefined
  }
}

export function runningServices(chosen: readonly Service[] = services): { readonly name: Service['name']; readonly running: Running | undefined }[] {
  return chosen.map((service) => ({ name: service.name, running: runningOf(service) }))
}

/** Starts those that do not run. Returns what tests find all of them by. Throws when something is missing, with how to have it. */
export async function startServices(chosen: readonly Service[], say: (line: string) => void): Promise<Record<string, string>> {
  const lacking = chosen.filter((service) => runningOf(service) === undefined).flatMap((service) => service.missing() ?? [])
  if (lacking.length > 0) throw new Error(`missing on this machine: ${lacking.join('; ')}`)
  const env: Record<string, string> = {}
  for (const service of chosen) {
    let running = runningOf(service)
    if (running === undefined) {
      // A part of it may still be there.
      await stopServices([service], false)
      const folder = folderOf(service)
      fs.mkdirSync(folder, { recursive: true })
      const from = Date.now()
      running = await service.start(folder)
      fs.writeFileSync(stateOf(service), JSON.stringify(running, undefined, 2))
      say(`${service.name}: started in ${((Date.now() - from) / 1000).toFixed(1)} s`)
    }
    Object.assign(env, running.env)
  }
  return env
}

export async function stopServices(chosen: readonly Service[], purge: boolean): Promise<void> {
  for (const service of chosen) {
    const file = stateOf(service)
    if (fs.existsSync(file)) await service.stop((JSON.parse(fs.readFileSync(file, 'utf8')) as Running).processes)
    if (purge) service.purge?.(folderOf(service))
    fs.rmSync(purge ? folderOf(service) : file, { recursive: true, force: true })
  }
}
