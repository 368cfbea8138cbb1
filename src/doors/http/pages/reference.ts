import path from 'node:path'
import { Worker } from 'node:worker_threads'

/** What /openapi.json and /docs answer. */
export interface Reference {
  readonly json: string
  readonly html: string
}

/**
 * Makes the reference of this version, in a thread that ends with it: loading the generator and describing all routes takes 60 ms,
 * which the event loop is not to be held for. Rejects with what the thread failed of.
 */
export function makeReference(version: string): Promise<Reference> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(`./worker${path.extname(import.meta.url)}`, import.meta.url), { workerData: version, name: 'kymo-docs' })
    worker.once('message', (reference: Reference) => resolve(reference))
    worker.once('error', reject)
    worker.once('exit', (code) => reject(new Error(`The thread that makes the reference has ended with ${code}.`)))
  })
}
