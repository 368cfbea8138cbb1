// Builds the page in the browser into dist/page: npm run build:page. npm ci runs it as well (prepare), and npm start where what is there
// is older than its sources. Plain JavaScript, so that an older Node can say what it lacks.
import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import zlib from 'node:zlib'

const self = fileURLToPath(import.meta.url)
const root = path.resolve(path.dirname(self), '..')
const built = path.join(root, 'dist/page')
/** What the page is made of. */
const sources = ['src/page', 'src/client', 'src/core/errors.ts', 'src/cli/reference/error-guide.ts', 'tools/build-page.js', 'package-lock.json']
const nodeMajorMin = 24

/** `fresh`, `stale`, or `absent`. A look at the times of some hundred files: 2 ms. */
export function pageState() {
  const index = fs.statSync(path.join(built, 'index.html'), { throwIfNoEntry: false })
  if (index === undefined) return 'absent'
  return sources.every((source) => newest(path.join(root, source)) <= index.mtimeMs) ? 'fresh' : 'stale'
}

function newest(file) {
  const stat = fs.statSync(file, { throwIfNoEntry: false })
  if (stat === undefined) return 0
  // A folder's own time says that something was removed from it.
  const inside = stat.isDirectory() ? fs.readdirSync(file).map((name) => newest(path.join(file, name))) : []
  return Math.max(stat.mtimeMs, ...inside)
}

/** Why it cannot be built here; undefined: it can. */
export function cannotBuild() {
  if (Number(process.versions.node.split('.')[0]) < nodeMajorMin) return `building needs Node ${nodeMajorMin} or newer, this is ${process.version}`
  if (!fs.existsSync(path.join(root, 'node_modules/vite/package.json'))) return 'what builds it is not installed: npm ci --include=dev'
  if (!fs.existsSync(path.join(root, 'src/page/index.html'))) return 'its sources are not here'
  return undefined
}

/** What the errors reference says of errors that dead letters have. */
function errorGuidePlugin() {
  const id = 'virtual:error-guide'
  return {
    name: 'error-guide',
    resolveId: (asked) => (asked === id ? `\0${id}` : undefined),
    async load(asked) {
      if (asked !== `\0${id}`) return undefined
      const [{ errorTable }, { errorGuide }] = await Promise.all([import('../src/core/errors.ts'), import('../src/cli/reference/error-guide.ts')])
      const codes = Object.entries(errorTable).filter(([code, { kind }]) => kind === 'invalid' && errorGuide[code] !== undefined)
      const guide = Object.fromEntries(codes.map(([code, { id, text }]) => [code, { id, text, ...errorGuide[code] }]))
      return `export const errorGuide = ${JSON.stringify(guide)}`
    },
  }
}

/** Builds beside what is there, then takes its place: a server that runs never sees half a page. */
export async function buildPage() {
  const began = performance.now()
  const { build } = await import('vite')
  const made = `${built}.${process.pid}.tmp`
  const old = `${built}.${process.pid}.old`
  fs.mkdirSync(path.dirname(built), { recursive: true })
  try {
    await build({
      root: path.join(root, 'src/page'),
      base: '/',
      configFile: false,
      envDir: false,
      publicDir: false,
      logLevel: 'warn',
      plugins: [errorGuidePlugin()],
      oxc: { jsx: { runtime: 'automatic' } },
      build: {
        outDir: made,
        emptyOutDir: true,
        assetsDir: 'page',
        assetsInlineLimit: 0,
        // Browsers of 2024 on: light-dark() as it is written.
        target: ['chrome123', 'firefox125', 'safari17.5'],
        cssCodeSplit: false,
        modulePreload: { polyfill: false },
        reportCompressedSize: false,
        license: { fileName: 'licenses.md' },
      },
    })
    const compressed = await compress(made)
    try {
      if (fs.existsSync(built)) fs.renameSync(built, old)
      fs.renameSync(made, built)
    } catch (error) {
      // Another process has built the same at the same time, and was faster.
      if (pageState() !== 'fresh') throw error
    }
    return { compressed, ms: performance.now() - began }
  } finally {
    fs.rmSync(made, { recursive: true, force: true })
    fs.rmSync(old, { recursive: true, force: true })
  }
}

const brotli = promisify(zlib.brotliCompress)
const gzip = promisify(zlib.gzip)

/** Once here instead of with each answer. Gives the bytes of what a first visit loads, with brotli. */
async function compress(folder) {
  const files = fs.readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => /\.(?:html|js|css|svg)$/.test(name))
  const sizes = await Promise.all(
    files.map(async (name) => {
      const file = path.join(folder, name)
      const bytes = fs.readFileSync(file)
      const [br, gz] = await Promise.all([
        brotli(bytes, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 11, [zlib.constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
        gzip(bytes, { level: 9 }),
      ])
      fs.writeFileSync(`${file}.br`, br)
      fs.writeFileSync(`${file}.gz`, gz)
      return br.length
    }),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}

/**
 * Builds where that is needed and possible. `must`: what prevents it is an error; otherwise it is told, and the server says on the page's
 * place what to do.
 */
export async function ensurePage({ must = false } = {}) {
  const state = pageState()
  if (state === 'fresh' && !must) return true
  const why = cannotBuild()
  if (why !== undefined) {
    // A package that came built has no sources to be newer.
    if (state === 'absent' || must) process.stderr.write(`  The page is not built: ${why}. Everything else works.\n`)
    return state !== 'absent' && !must
  }
  const { compressed, ms } = await buildPage()
  process.stdout.write(`  page built: ${(compressed / 1024).toFixed(0)} kB compressed, ${ms.toFixed(0)} ms\n`)
  return true
}

if (process.argv[1] !== undefined && self === fs.realpathSync(process.argv[1])) {
  const asked = process.argv.includes('--if-stale')
  const there = await ensurePage({ must: !asked })
  // At npm ci a machine without the tools for it still gets the server.
  process.exitCode = there || asked ? 0 : 1
}
