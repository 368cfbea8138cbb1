import { writeSync } from 'node:fs'
import type { MetaStoreModule } from './meta-store.ts'

/** Run as a child by the MetaStore contract: writes pairs for ever, and prints the id of each pair that is durable. */
const [moduleUrl, location] = process.argv.slice(2)
if (moduleUrl === undefined || location === undefined) throw new Error('usage: meta-store-writer MODULE LOCATION')
const { open } = (await import(moduleUrl)) as MetaStoreModule
const store = await open(location)
const text = 'x'.repeat(500)

async function writer(name: number): Promise<never> {
  for (let n = 0; ; n++) {
    const id = `${name}-${String(n).padStart(6, '0')}`
    await store.write([
      { op: 'put', collection: 'pairs', tenant: 'left', doc: { id, text } },
      { op: 'put', collection: 'pairs', tenant: 'right', doc: { id, text } },
    ])
    writeSync(1, `${id}\n`)
  }
}

await Promise.all([writer(1), writer(2), writer(3), writer(4)])
