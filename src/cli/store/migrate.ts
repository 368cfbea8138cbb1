import fs from 'node:fs'
import type { Command } from 'commander'
import { enginesOf, type TableEngine } from '../../core/config-engines.ts'
import { withoutPassword } from '../../core/config-value.ts'
import type { Config } from '../../core/config.ts'
import { createLogger, nodeEnv } from '../../core/env/node-env.ts'
import { openSqliteForecasts } from '../../store/forecasts/sqlite.ts'
import { examples, jsonOption } from '../options.ts'
import { loadSettings } from '../settings.ts'
import type { Terminal } from '../terminal.ts'

interface MigrateOptions {
  readonly data?: string
  readonly config?: string
  readonly json?: boolean
}

/** What was done for one setting. */
interface Migrated {
  readonly setting: string
  readonly place: string
  /** Names of the steps; empty: all was there. */
  readonly taken: readonly string[]
}

/** `kymo store migrate`: what a start does with tables, before one. */
export function declareMigrate(store: Command, terminal: Terminal): void {
  const migrate = store
    .command('migrate')
    .description('make the tables of store.url, meta.url and forecast.url, or bring them to this version, as a start does')
    .option('--data <dir>', 'the data directory (./kymo-data)')
    .option('--config <file>', 'settings in YAML (KYMO_CONFIG, else ./kymo.yaml when it is there)')
  jsonOption(migrate)
  migrate.action((options: MigrateOptions) => run(options, terminal))
  examples(migrate, [
    ['kymo store migrate', 'the tables of predictions and models, in the data directory or where forecast.url says'],
    ['KYMO_FORECAST_URL=postgres://… kymo store migrate', 'a database: all steps in one transaction, or none of them'],
  ])
}

async function run(options: MigrateOptions, terminal: Terminal): Promise<void> {
  const flags = options.data === undefined ? {} : { data_dir: options.data }
  const { config } = await loadSettings({ flags, configFile: options.config, env: terminal.env })
  const migrated: Migrated[] = []
  for (const one of partsOf(config)) migrated.push({ setting: one.setting, place: one.place, taken: await one.work() })
  if (options.json === true) {
    terminal.out(JSON.stringify({ migrated }))
    return
  }
  for (const { setting, place, taken } of migrated)
    terminal.out(
      `  ${terminal.colors.green('✓')} ${setting.padEnd(13)}${place}: ${taken.length === 0 ? 'nothing to do' : `made ${taken.join(', ')}`}`,
    )
}

interface Part {
  readonly setting: string
  readonly place: string
  readonly work: () => Promise<readonly string[]>
}

function partsOf(config: Config): Part[] {
  const { store, meta, forecast } = enginesOf(config)
  const outside = (setting: string, engine: TableEngine, components: readonly Component[]): Part[] =>
    engine.kind === 'local' ? [] : [{ setting, place: withoutPassword(engine.url), work: () => inDatabase(engine.url, components) }]
  const local = forecast.kind === 'local' ? [{ setting: 'forecast.url', place: forecast.path, work: () => inFile(forecast.path) }] : []
  // The view of messages shows what the metadata says of firmware: in the store's schema, too.
  return [
    ...outside('store.url', store, ['meta', 'store']),
    ...outside('meta.url', meta, ['meta']),
    ...outside('forecast.url', forecast, ['forecasts']),
    ...local,
  ]
}

type Component = 'meta' | 'store' | 'forecasts'

async function inDatabase(url: string, components: readonly Component[]): Promise<readonly string[]> {
  const [{ openPostgres }, { migrate, pendingMigrations }, found] = await Promise.all([
    import('../../store/pg/client.ts'),
    import('../../store/pg/migrate.ts'),
    import('../../store/pg/components.ts'),
  ])
  const of = { meta: found.metaMigrations, store: found.storeMigrations, forecasts: found.forecastMigrations }
  const db = openPostgres({ url, connectionsMax: 1 })
  try {
    const taken: string[] = []
    for (const component of components) {
      const pending = await pendingMigrations(db, component, of[component])
      await migrate(db, component, of[component])
      taken.push(...pending.map(({ version, name }) => `${String(version).padStart(4, '0')}-${name}`))
    }
    return taken
  } finally {
    await db.close()
  }
}

/** Beside a running server, too: SQLite lets both in. */
async function inFile(path: string): Promise<readonly string[]> {
  const there = fs.existsSync(path)
  const store = openSqliteForecasts({ path, env: nodeEnv(createLogger({ level: 'error', format: 'text' })) })
  try {
    await store.prepare()
  } finally {
    await store.close()
  }
  return there ? [] : ['the file']
}
