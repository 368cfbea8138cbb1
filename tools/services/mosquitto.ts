import fs from 'node:fs'
import path from 'node:path'
import { accepts, freePorts, halt, launch, program, untilReady } from './process.ts'
import type { Service } from './service.ts'

const broker = (): string | undefined => program('mosquitto', '/usr/sbin/mosquitto')

/** The outside broker. */
export const mosquitto: Service = {
  name: 'mosquitto',
  missing: () => (broker() === undefined ? 'mosquitto (Debian: mosquitto)' : undefined),
  async start(dir) {
    const [port = 0] = await freePorts(1)
    const config = path.join(dir, 'mosquitto.conf')
    fs.writeFileSync(config, `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\n`)
    const logFile = path.join(dir, 'mosquitto.log')
    const started = await launch({ command: broker() ?? 'mosquitto', args: ['-c', config], cwd: dir, logFile })
    await untilReady('mosquitto', started, logFile, 10_000, () => accepts(port))
    return { processes: { broker: started }, env: { KYMO_TEST_MOSQUITTO_URL: `mqtt://127.0.0.1:${port}` } }
  },
  async stop(processes) {
    for (const one of Object.values(processes)) await halt(one, 'SIGTERM', 5_000)
  },
}
