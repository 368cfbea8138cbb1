/** The texts of the generated reference pages, each from the one place where the code says it. */
import { limits } from '../src/core/limits.ts'

export const generated = (from: string): string => `<!-- Made from ${from} by npm run docs. Do not edit. -->`
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')

function unitOf(name: string): string {
  if (/Bytes(?:Max|Min)?$/.test(name)) return 'bytes'
  if (name.endsWith('Us')) return 'µs'
  if (name.endsWith('Ms')) return 'ms'
  if (name.endsWith('PerS')) return 'per second'
  return ''
}

function quantity(name: string, value: number): string {
  if (unitOf(name) === 'bytes' && value % 1024 === 0) {
    const [size, word] = value % (1024 * 1024) === 0 ? [value / 1024 / 1024, 'MiB'] : [value / 1024, 'KiB']
    return `${size.toLocaleString('en')} ${word}`
  }
  if (unitOf(name) === 'µs' && value % 1e6 === 0) {
    const seconds = value / 1e6
    return seconds % 3600 === 0 ? `${(seconds / 3600).toLocaleString('en')} h` : `${seconds.toLocaleString('en')} s`
  }
  return `${value.toLocaleString('en')}${unitOf(name) === '' ? '' : ` ${unitOf(name)}`}`
}

/** Names and comments come from the sources, values from the program. */
export function limitsPage(sources: readonly string[]): string {
  const out = ['# Limits', '', generated('src/core/limits.ts and src/core/limits-doors.ts'), '']
  out.push('Nothing in Kymo grows without one of these. Those that are settings as well have these values as defaults ([config](config.md)).')
  const values = new Map(Object.entries<number>(limits))
  let comment: string[] = []
  let listed = 0
  for (const line of sources.flatMap((source) => source.slice(source.indexOf('export const')).split('\n'))) {
    const section = /^\s*\/\/ --- (.+) ---/.exec(line)
    const key = /^\s*(\w+):/.exec(line)
    const words = /^\s*(?:\/\*\*|\*(?!\/)|\/\/)\s?(.*?)\s*(?:\*\/)?$/.exec(line)
    if (section !== null)
      out.push('', `## ${section[1]![0]!.toUpperCase()}${section[1]!.slice(1)}`, '', '| limit | value | why |', '| --- | --- | --- |')
    else if (key !== null && values.has(key[1]!)) {
      out.push(`| ${key[1]} | ${quantity(key[1]!, values.get(key[1]!)!)} | ${cell(comment.join(' ').trim())} |`)
      comment = []
      listed++
    } else if (words !== null) comment.push(words[1]!)
  }
  if (listed !== values.size) throw new Error(`src/core/limits*.ts have ${values.size} limits, ${listed} were found in its text`)
  return `${out.join('\n')}\n`
}

export interface MetricSource {
  readonly file: string
  readonly source: string
}

/** Found where they are registered: `metrics.counter('kymo_…', 'help', { label: … })`. One name has one help and one set of labels. */
export function metricsPage(files: readonly MetricSource[]): string {
  const call = /\.(counter|gauge|histogram)\(\s*'(\w+)',\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(\w+)\b)(?:,\s*\{([^}]*)\})?/g
  // A help that two cells share stands in a constant of the same file.
  const constant = (source: string, given: string): string => {
    const text = new RegExp(`const ${given} =\\s*'((?:[^'\\\\]|\\\\.)*)'`).exec(source)?.[1]
    if (text === undefined) throw new Error(`the help of a metric is ${given}, which is no constant text of its file`)
    return text
  }
  const found = new Map<string, { type: string; help: string; labels: string }>()
  for (const { source } of files) {
    for (const [, type, name, single, double, shared, labels] of source.matchAll(call)) {
      const names = (labels ?? '').split(',').flatMap((part) => /^\s*(\w+)/.exec(part)?.[1] ?? [])
      const known = found.get(name!)
      const help = (single ?? double ?? constant(source, shared!)).replaceAll("\\'", "'")
      if (known === undefined) found.set(name!, { type: type!, help, labels: names.join(', ') })
      else if (known.help !== help) throw new Error(`the metric ${name} has two helps: "${known.help}" and "${help}"`)
    }
  }
  const out = [
    '# Metrics',
    '',
    generated('src/'),
    '',
    '`GET /metrics` gives them in the Prometheus text format. Base units; a device id is never a label.',
    '',
  ]
  out.push('| metric | type | labels | what |', '| --- | --- | --- | --- |')
  for (const [name, m] of [...found].toSorted(([a], [b]) => (a < b ? -1 : 1))) out.push(`| \`${name}\` | ${m.type} | ${m.labels} | ${cell(m.help)} |`)
  return `${out.join('\n')}\n`
}
