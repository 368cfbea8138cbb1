import fs from 'node:fs'
import path from 'node:path'
import type { Places } from '../../core/config-engines.ts'
import type { Config } from '../../core/config.ts'
import { createLogger, nodeDisk, nodeEnv } from '../../core/env/node-env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { openTokens } from '../../devices/tokens.ts'
import { decodeSegmentHeader, segmentHeaderBytes, segmentVersion } from '../../log/embedded/format.ts'
import { sealedFormat } from '../../store/duckdb/sealed/format.ts'
import { readManifest } from '../../store/duckdb/sealed/manifest-file.ts'
import { checkForecastsHeader } from '../../store/forecasts/schema.ts'
import { openSqliteMeta } from '../../store/meta/sqlite.ts'
import { inspectHot } from '../../store/duckdb/inspect.ts'
import { bytes, count } from '../format.ts'
import { takeLock } from '../lock.ts'
import { version } from '../version.ts'
import { fail, ok, warn, type Finding } from './finding.ts'

const older = 'Start the version that wrote it, or a newer one; or restore a backup.'
/** A share of the quota from which a word is due. */
const quotaNear = 0.9

/** Files of the log and of the store in formats that this version knows. Reads a few bytes of each; kymo log verify reads all. */
export function checkFormats(where: Places): Finding[] {
  const findings: Finding[] = []
  if (!fs.existsSync(where.logDir)) findings.push(ok('log', 'none yet'))
  else findings.push(attempt('log', () => ok('log', `${segmentsOf(where.logDir)} segments, format ${segmentVersion}`)))
  if (!fs.existsSync(where.storeDir)) findings.push(ok('store', 'none yet'))
  else findings.push(attempt('store', () => ok('store', `${readManifest(where.storeDir).runs.length} sealed parts, format ${sealedFormat}`)))
  return findings
}

/**
 * The file that is written, when no server does: whether it opens with its write-ahead log, and knows this format. The directory is held meanwhile, so that
 * no server starts on it; nothing is changed. `kymo store verify` reads all.
 */
export async function checkHot(where: Places): Promise<Finding[]> {
  const check = 'store file'
  const numbers = fs.existsSync(where.storeDir)
    ? fs.readdirSync(where.storeDir).map((name) => Number(/^hot-(\d+)\.duckdb$/.exec(name)?.[1] ?? 0))
    : []
  const newest = Math.max(0, ...numbers)
  if (newest === 0) return []
  const outcome = takeLock(where.dataDir, { version: version(), now: new Date() })
  if (!outcome.taken)
    return [warn(check, 'was not opened: a process that does not answer holds the directory', 'Look at kymo.lock there for who it is.')]
  try {
    const name = `hot-${newest}.duckdb`
    try {
      const { readings, late, series, toUs } = await inspectHot(path.join(where.storeDir, name), false)
      const last = toUs === undefined ? '' : `, the latest of ${new Date(toUs / 1000).toISOString()}`
      return [ok(check, `${name} opens: ${count(series)} series, ${count(readings + late)} readings not sealed yet${last}`)]
    } catch (thrown) {
      const { code, message } = asKymoError(thrown)
      const fix =
        code === 'store_format' ? older : 'Copy the directory first. Then: kymo store verify, for what else is damaged; or restore a backup.'
      return [fail(check, code === 'store_format' ? code : 'store_corrupt', `${name} cannot be opened: ${message}`, fix)]
    }
  } finally {
    outcome.lock.release()
  }
}

function attempt(check: string, work: () => Finding): Finding {
  try {
    return work()
  } catch (thrown) {
    const { code, message } = asKymoError(thrown)
    const damaged = 'Copy the directory first. Then: kymo log verify, kymo log repair, kymo store verify; or restore a backup.'
    return fail(check, code === 'bug' ? 'data_dir_unusable' : code, message, code.endsWith('_format') ? older : damaged)
  }
}

/** How many segments there are; throws when one is of another format. They lie in a folder for each partition of each topic. */
function segmentsOf(dir: string): number {
  const files = fs.readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.seg'))
  const last = new Map(files.toSorted().map((name) => [path.dirname(name), name]))
  for (const name of files) {
    const file = nodeDisk.open(path.join(dir, name), 'read')
    try {
      const header = Buffer.alloc(segmentHeaderBytes)
      const whole = file.read(header, 0) === segmentHeaderBytes && decodeSegmentHeader(header) !== undefined
      // The last one may have been begun when the machine stopped: the start takes care of it.
      if (!whole && last.get(path.dirname(name)) !== name)
        throw new KymoError('log_corrupt', { detail: `${name} does not begin as a segment of the log` })
    } finally {
      file.close()
    }
  }
  return files.length
}

/** The file of predictions and models: whether it is one, and of a format that this version knows. */
export function checkForecasts(file: string): Finding {
  const check = 'forecasts'
  if (!fs.existsSync(file)) return ok(check, 'none yet')
  try {
    checkForecastsHeader(file)
    return ok(check, `${path.basename(file)}, ${bytes(fs.statSync(file).size)}`)
  } catch (thrown) {
    const { code, message } = asKymoError(thrown)
    const fix = code === 'store_format' ? older : 'Restore it from a backup, or move it away and train again: readings are not in it.'
    return fail(check, code === 'bug' ? 'forecasts_corrupt' : code, message, fix)
  }
}

/** Undefined: there is no metadata yet, or it cannot be read; the second is told by the finding. */
export async function checkMeta(where: Places): Promise<{ readonly finding: Finding; readonly tokens: boolean }> {
  if (!fs.existsSync(where.metaFile)) return { finding: ok('metadata', 'none yet'), tokens: false }
  const env = nodeEnv(createLogger({ level: 'error', format: 'text' }))
  try {
    const meta = await openSqliteMeta({ path: where.metaFile, env, thread: false })
    try {
      const tokens = await openTokens({ meta, env, watch: false })
      const found = tokens.any
      await tokens.close()
      return { finding: ok('metadata', found ? 'there are tokens' : 'no tokens'), tokens: found }
    } finally {
      await meta.close()
    }
  } catch (thrown) {
    const { code, message } = asKymoError(thrown)
    return { finding: fail('metadata', code === 'bug' ? 'meta_corrupt' : code, message, 'Restore it from a backup: kymo restore.'), tokens: false }
  }
}

export function checkQuota(config: Config, where: Places): Finding {
  const used = sizeOf(where.logDir) + sizeOf(where.storeDir)
  const quota = config.storage.quota_mb * 1e6
  if (quota === 0) return ok('storage', `log and store have ${bytes(used)}; no quota`)
  const text = `log and store have ${bytes(used)} of ${bytes(quota)} (storage.quota_mb)`
  const fix = 'Raise storage.quota_mb, or keep less (retention.raw, retention.store_mb), then: kymo config reload'
  if (used > quota) return fail('storage', 'storage_quota', `${text}: acknowledgements wait`, fix)
  return used > quota * quotaNear ? warn('storage', text, fix) : ok('storage', text)
}

/** Files come and go beside a running server: what is gone counts nothing. */
function sizeOf(dir: string): number {
  if (!fs.existsSync(dir)) return 0
  let sum = 0
  for (const entry of fs.readdirSync(dir, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) sum += fs.statSync(path.join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0
  return sum
}
