import { KymoError } from '../../core/errors.ts'
import { Topic } from '../../core/record.ts'
import { segmentBase } from '../../log/embedded/snapshot.ts'
import type { Backup, BackupFile, Repository } from './repository.ts'

/** What is put together to make a data directory. */
export interface Plan {
  /** Whose store and metadata are taken. */
  readonly backup: Backup
  readonly files: readonly BackupFile[]
  readonly topics: readonly string[]
}

const moment = (us: number): string => new Date(us / 1000).toISOString()

/** `2026-11-21T10:22:33.000Z to …`: to which moments a backup can be restored. */
export function rangeText(backup: Backup, reachUs: number): string {
  return `${backup.from_us === 0 ? 'its beginning' : moment(backup.from_us)} to ${moment(reachUs)}`
}

type Segments = ReadonlyMap<bigint, BackupFile>

function segmentsOf(backup: Backup, topic: string): Segments {
  const found = new Map<bigint, BackupFile>()
  for (const file of backup.files) {
    const base = file.path.startsWith(`log/${topic}/0/`) ? segmentBase(file.path.slice(`log/${topic}/0/`.length)) : undefined
    if (base !== undefined) found.set(base, file)
  }
  return found
}

function firstOf(segments: Segments): bigint {
  return [...segments.keys()].reduce((a, b) => (b < a ? b : a), 1n << 62n)
}

/** Does the log of `later` go on without a hole where that of `earlier` ends? */
function continues(earlier: Backup, later: Backup): boolean {
  if (earlier.log.id !== later.log.id || earlier.log.lineage !== later.log.lineage) return false
  return firstOf(segmentsOf(later, Topic.telemetry)) <= BigInt(earlier.log.ends[Topic.telemetry] ?? '0')
}

/** The backup and those whose logs continue its own, oldest first. */
function chainOf(backups: readonly Backup[], backup: Backup): Backup[] {
  const chain = [backup]
  for (const later of backups.filter((one) => one.created_us > backup.created_us)) if (continues(chain.at(-1)!, later)) chain.push(later)
  return chain
}

/** The last moment to which a backup can be restored: the log of later ones goes on from it, as long as none of it is missing. */
export function reachOf(backups: readonly Backup[], backup: Backup): number {
  return chainOf(backups, backup).at(-1)!.created_us
}

/**
 * Of the backup that was asked for, or the newest from which `untilUs` can be reached, or the newest: its store and metadata, and the log of it and, when the
 * moment lies after it, of those that continue it. Throws `not_found`, or `restore_refused` with the moments that there are.
 */
export function planOf(repository: Repository, o: { readonly id?: string; readonly untilUs?: number }): Plan {
  const { id, untilUs } = o
  const { backups, unreadable } = repository.list()
  const candidates = id === undefined ? backups : [repository.read(id)]
  const backup = candidates.findLast((one) => untilUs === undefined || (untilUs >= one.from_us && untilUs <= reachOf(backups, one)))
  // The newest is meant: an older one in its place would be a surprise.
  const newer = unreadable.find((one) => id === undefined && (backup === undefined || one.id > backup.id))
  if (newer !== undefined && untilUs === undefined) throw newer.error
  if (candidates.length === 0) throw new KymoError('not_found', { detail: `${repository.dir} holds no finished backup.` })
  if (backup === undefined)
    throw new KymoError('restore_refused', {
      detail: `${moment(untilUs ?? 0)} cannot be reached from a backup: what a store holds cannot be cut, and of what came later there must be the log.`,
      facts: { fix: `Possible:\n${candidates.map((one) => `  ${one.id}: ${rangeText(one, reachOf(backups, one))}`).join('\n')}` },
    })
  const chain = chainOf(backups, backup)
  const last = untilUs === undefined ? 0 : chain.findIndex((one) => one.created_us >= untilUs)
  return { backup, ...logOf(chain.slice(0, last + 1)) }
}

/** Files of the first of `chain`, with the log up to the last. */
function logOf(chain: readonly Backup[]): Pick<Plan, 'files' | 'topics'> {
  const [first] = chain
  const isSegment = (file: BackupFile): boolean => file.path.startsWith('log/') && file.path.endsWith('.seg')
  const files = first!.files.filter((file) => !isSegment(file))
  const topics = [...new Set(chain.flatMap((one) => Object.keys(one.log.ends)))]
  for (const topic of topics) {
    let merged: Segments = new Map()
    let end = 0n
    for (const one of chain) {
      const segments = segmentsOf(one, topic)
      if (segments.size === 0) continue
      // Where all that there was has been dropped since (dead letters grow old), what came later stands alone.
      merged = firstOf(segments) <= end ? new Map([...merged, ...segments]) : segments
      end = BigInt(one.log.ends[topic] ?? '0')
    }
    files.push(...merged.values())
  }
  return { files, topics }
}
