// The test command: unit, contract and simulation tests, then the end-to-end ones, in one report.
//
//   npm test                      everything
//   npm test -- store pump        only files whose path contains one of these words
//   npm test -- --name 'torn'     only tests whose name matches
//   npm test -- --list            the files, in order
//   npm run test:services         those of test/services/, which need the engines of npm run services
//
// It is plain JavaScript that an older Node can parse, so that it can say clearly which one is needed.
// KYMO_COVERAGE=1 prints the coverage of src/ per room. KYMO_FAIL_ON_SKIP=1 makes a skipped test a failure.
import fs from 'node:fs'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { finished } from 'node:stream/promises'
import { parseArgs } from 'node:util'

const major = Number(process.versions.node.split('.')[0])
if (major < 24) {
  process.stderr.write(
    `error: the tests need Node 24 or newer; this is ${process.version}.\n  Run them through npm, which brings Node 24 along: npm ci && npm test\n`,
  )
  process.exit(3)
}

const root = path.resolve(import.meta.dirname, '..')
process.chdir(root)

/** Nothing heard from any file for so long: what is still open is named and ended, instead of hanging the run. */
const silenceMaxMs = Number(process.env.KYMO_TEST_TIMEOUT_MS ?? 10 * 60_000)

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    name: { type: 'string', multiple: true },
    list: { type: 'boolean' },
    concurrency: { type: 'string' },
    services: { type: 'boolean', default: false },
  },
})

const found = (folder) => fs.globSync(`${folder}/**/*.test.ts`).toSorted()
const wanted = (file) => positionals.length === 0 || positionals.some((word) => file.includes(word.replace(/^\.\//, '')))
const needsServices = (file) => file.startsWith(path.join('test', 'services'))
const files = [...found('test'), ...found('e2e')].filter((file) => needsServices(file) === values.services && wanted(file))

if (values.list === true) {
  process.stdout.write(`${files.join('\n')}\n`)
  process.exit(0)
}
if (files.length === 0) {
  process.stderr.write(`error: no test file matches ${positionals.join(' ')}\n`)
  process.exit(2)
}

const { run } = await import('node:test')
const { spec } = await import('node:test/reporters')

const withCoverage = process.env.KYMO_COVERAGE === '1'
const started = performance.now()
const counts = { passed: 0, failed: 0 }
const skipped = []
const open = new Set(files)
let coverage

const stop = new AbortController()
const silence = setTimeout(() => {
  process.stdout.write(`\nNothing was heard for ${silenceMaxMs / 1000} s. Still open, and ended now:\n  ${[...open].join('\n  ')}\n`)
  hung = true
  stop.abort()
}, silenceMaxMs)
let hung = false

// The order given here is the order of the run, so that the quick tests speak first.
const events = run({
  files: files.map((file) => path.resolve(file)),
  cwd: root,
  concurrency: Number(values.concurrency ?? Math.min(4, availableParallelism())),
  signal: stop.signal,
  ...(values.name === undefined ? {} : { testNamePatterns: values.name.map((name) => new RegExp(name, 'i')) }),
  ...(withCoverage ? { coverage: true, coverageIncludeGlobs: ['src/**/*.ts'] } : {}),
})

const report = new spec()
report.pipe(process.stdout, { end: false })
for await (const event of events) {
  silence.refresh()
  count(event)
  // The per-file table is long; the summary below is printed instead.
  if (event.type !== 'test:coverage') report.write(event)
}
clearTimeout(silence)
report.end()
await finished(report, { writable: false })
process.stdout.write('', () => close())

function count({ type, data }) {
  if (type === 'test:coverage') coverage = data.summary
  if (type === 'test:summary' && data.file !== undefined) open.delete(path.relative(root, data.file))
  if (type !== 'test:pass' && type !== 'test:fail') return
  const reason = data.skip ?? data.todo
  // A suite counts by its tests, but one that is left out as a whole has none to count.
  if (data.details?.type === 'suite' && (reason === undefined || reason === false)) return
  if (reason !== undefined && reason !== false) {
    const why = typeof reason === 'string' && reason !== '' ? `: ${reason}` : ''
    skipped.push(`${path.relative(root, data.file ?? '')} › ${data.name}${why}`)
  } else if (type === 'test:pass') counts.passed++
  else counts.failed++
}

function close() {
  if (coverage !== undefined) printCoverage(coverage)
  const lines = []
  if (skipped.length > 0) lines.push('', 'skipped:', ...skipped.map((name) => `  ${name}`))
  // What needs a TimescaleDB, which no package brings, may be left out; it is told all the same.
  const failOnSkip = process.env.KYMO_FAIL_ON_SKIP === '1' && skipped.some((name) => !name.includes('KYMO_TEST_TIMESCALE_URL'))
  if (failOnSkip) lines.push('', 'A skipped test is a failure here (KYMO_FAIL_ON_SKIP=1).')
  const nothing = counts.passed + counts.failed + skipped.length === 0
  if (nothing) lines.push('', 'No test ran.')
  const seconds = ((performance.now() - started) / 1000).toFixed(0)
  lines.push('', `${files.length} files in ${seconds} s`, `${counts.passed} passed, ${counts.failed} failed, ${skipped.length} skipped`, '')
  process.exitCode = counts.failed > 0 || failOnSkip || nothing || hung ? 1 : 0
  process.stdout.write(lines.join('\n'))
}

function printCoverage(summary) {
  const rooms = new Map()
  for (const file of summary.files) {
    const room = path.relative(path.join(root, 'src'), file.path).split(path.sep)[0] ?? ''
    const sum = rooms.get(room) ?? { files: 0, lines: 0, linesHit: 0, branches: 0, branchesHit: 0, functions: 0, functionsHit: 0 }
    sum.files++
    sum.lines += file.totalLineCount
    sum.linesHit += file.coveredLineCount
    sum.branches += file.totalBranchCount
    sum.branchesHit += file.coveredBranchCount
    sum.functions += file.totalFunctionCount
    sum.functionsHit += file.coveredFunctionCount
    rooms.set(room, sum)
  }
  const percent = (hit, all) => (all === 0 ? '–' : `${((100 * hit) / all).toFixed(1)} %`).padStart(8)
  const out = [
    '',
    `${'coverage of src/'.padEnd(18)}${'files'.padStart(6)}${'lines'.padStart(9)}${'branches'.padStart(10)}${'functions'.padStart(10)}`,
  ]
  for (const [room, s] of [...rooms].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    out.push(
      `  ${room.padEnd(16)}${String(s.files).padStart(6)} ${percent(s.linesHit, s.lines)}  ${percent(s.branchesHit, s.branches)}  ${percent(s.functionsHit, s.functions)}`,
    )
  }
  const t = summary.totals
  out.push(
    `  ${'all'.padEnd(16)}${String(summary.files.length).padStart(6)} ${percent(t.coveredLineCount, t.totalLineCount)}  ${percent(t.coveredBranchCount, t.totalBranchCount)}  ${percent(t.coveredFunctionCount, t.totalFunctionCount)}`,
    '',
  )
  process.stdout.write(out.join('\n'))
}
