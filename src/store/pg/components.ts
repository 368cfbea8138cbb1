import path from 'node:path'
import { migrationsIn } from './migrate.ts'

/** What Kymo keeps in PostgreSQL, each with steps of its own; in one schema or in several. */
const stepsOf = (folder: string): ReturnType<typeof migrationsIn> => migrationsIn(path.join(import.meta.dirname, '..', folder, 'migrations'))

export const forecastMigrations = stepsOf('forecasts')
export const metaMigrations = stepsOf('meta')
/** The view of messages shows what the metadata says of firmware: after those of `meta`, in the same schema. */
export const storeMigrations = stepsOf('postgres')
