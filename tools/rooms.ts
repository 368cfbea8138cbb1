/**
 * The table of docs/ARCHITECTURE.md, "Rooms", as data. A room may import from rooms in the rows above it; rooms in one row
 * do not import each other. The lint configuration says part of the same; this is what the test holds.
 */
export const rows: readonly (readonly string[])[] = [
  ['core'],
  ['wire'],
  ['compute'],
  ['log', 'store'],
  ['devices', 'alerts', 'models'],
  ['doors'],
  ['roles'],
  ['client'],
  ['cli', 'page'],
]

/** Rooms that run elsewhere, and so may import of the rooms above them only these. */
export const only: Readonly<Record<string, readonly string[]>> = { client: [], page: ['client'] }

/**
 * Rooms whose folders are neighbours behind walls: `doors/mqtt` knows nothing of `doors/http`. Files that lie in the room itself
 * may import any of its folders (a registry does) and be imported by all of them.
 */
export const walled: Readonly<Record<string, { readonly sharedFolders: readonly string[] }>> = {
  wire: { sharedFolders: ['json'] },
  compute: { sharedFolders: ['window'] },
  log: { sharedFolders: [] },
  store: { sharedFolders: ['pg', 'sqlite'] },
  doors: { sharedFolders: ['tls'] },
}

export const roles: readonly string[] = ['ingest', 'store', 'aggregate', 'alert', 'forecast', 'api', 'edge']

/** Roles meet only in the log and the stores. These files put roles together, and are the only ones that may import them. */
export const compositions: readonly string[] = ['src/roles/server.ts', 'src/roles/engines.ts', 'src/roles/taking.ts', 'src/roles/status.ts']

/** Packages that are large, native or of one engine: each is imported in its adapter and nowhere else. */
export const drivers: readonly { readonly packages: RegExp; readonly only: readonly string[] }[] = [
  { packages: /^@duckdb\//, only: ['src/store/duckdb/', 'src/store/parquet/'] },
  { packages: /^node:sqlite$/, only: ['src/store/meta/', 'src/store/forecasts/', 'src/store/sqlite/', 'src/cli/lock.ts'] },
  { packages: /^(kafkajs|@platformatic\/kafka)$/, only: ['src/log/kafka/'] },
  { packages: /^(nats|@nats-io\/.*)$/, only: ['src/log/nats/'] },
  { packages: /^@aws-sdk\//, only: ['src/log/kinesis/', 'src/store/aws/'] },
  { packages: /^(pg|pg-.*|postgres)$/, only: ['src/store/pg/', 'src/store/postgres/', 'src/store/meta/', 'src/store/forecasts/', 'src/doors/pull/'] },
  { packages: /^mongodb$/, only: ['src/store/mongo/'] },
  { packages: /^(fastify|@fastify\/.*|prom-client)$/, only: ['src/doors/http/'] },
  { packages: /^mqtt$/, only: ['src/doors/pull/', 'src/roles/', 'src/cli/'] },
  { packages: /^yaml$/, only: ['src/core/config-file.ts'] },
  { packages: /^(commander|picocolors)$/, only: ['src/cli/'] },
  { packages: /^(react|react-dom|uplot)(\/.*)?$/, only: ['src/page/'] },
]

/** Rooms that compute and nothing else: which of Node's own modules they may name. */
export const pure: Readonly<Record<string, RegExp>> = {
  wire: /^node:(buffer|crypto|os|zlib)$/,
  compute: /^node:buffer$/,
  client: /^(?!)/,
  page: /^(?!)/,
}

/** Rooms where the clock and chance come in as data. */
export const timeless: readonly string[] = ['wire', 'compute']
export const timelessWords = /\b(?:Date\.now|performance\.now|Math\.random|setTimeout|setInterval|setImmediate|process\.hrtime)\b/

export const linesMax = 500
export const linesWarn = 400
