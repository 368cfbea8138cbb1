import fs from 'node:fs'
import path from 'node:path'
import type { Env } from '../../core/env.ts'
import type { MetaDocument } from '../../core/ports.ts'
import type { Job, JobKind } from '../../core/services.ts'

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

const kinds: ReadonlySet<unknown> = new Set<JobKind>(['import', 'export', 'train', 'backtest'])

function isJob(value: object): value is Job {
  return (
    'kind' in value &&
    kinds.has(value.kind) &&
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

/**
 * Where the jobs of this data directory are kept in metadata that several processes share: files of jobs lie in the directory, so nobody else can go on
 * with them. It is named by a file that is made at the first start.
 */
export function ownCollection(dataDir: string, { random }: Pick<Env, 'random'>): string {
  const file = path.join(dataDir, 'jobs.id')
  if (!fs.existsSync(file)) {
    fs.writeFileSync(`${file}.new`, random.uuid())
    fs.renameSync(`${file}.new`, file)
  }
  return `jobs-${fs.readFileSync(file, 'utf8')}`
}
