import type { Env } from '../../core/env.ts'
import type { MetaDocument } from '../../core/ports.ts'
import type { Job } from '../../core/services.ts'

export interface StoredJob {
  readonly tenant: string
  readonly job: Job
}

/** RFC 9562 5.7 (UUIDv7): sorts by time of creation. */
export function jobId(env: Pick<Env, 'clock' | 'random'>): string {
  const ms = Math.floor(env.clock.nowUs() / 1e3)
    .toString(16)
    .padStart(12, '0')
  return `${ms.slice(0, 8)}-${ms.slice(8)}-7${env.random.uuid().slice(15)}`
}

/** A document of the collection `jobs`; undefined when it is none that this version knows. */
export function jobOf(doc: MetaDocument): StoredJob | undefined {
  const { tenant, ...job } = doc
  return typeof tenant === 'string' && isJob(job) ? { tenant, job } : undefined
}

function isJob(value: object): value is Job {
  return (
    'kind' in value &&
    (value.kind === 'import' || value.kind === 'export') &&
    'state' in value &&
    typeof value.state === 'string' &&
    'created_us' in value &&
    typeof value.created_us === 'number' &&
    'attempts' in value &&
    typeof value.attempts === 'number' &&
    'parameters' in value &&
    typeof value.parameters === 'object' &&
    'files' in value &&
    typeof value.files === 'object'
  )
}
