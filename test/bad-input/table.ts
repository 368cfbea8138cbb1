import { Buffer } from 'node:buffer'
import { batches, documents, doors, seedShapes, times } from './bodies.ts'
import { routePaths, type BadInput } from './case.ts'
import { names, numbers, types } from './fields.ts'
import { lines } from './lines.ts'

export { routePaths, type BadInput, type Route } from './case.ts'

/** What comes in and should not, and what becomes of it. Documentation and tests are made from this. */
export const badInput: readonly BadInput[] = [...numbers, ...types, ...names, ...times, ...documents, ...seedShapes, ...batches, ...doors, ...lines]

const intro = `# Bad input

What Kymo does with input that is wrong, or looks as if it were. This page is made from test/bad-input/table.ts; the tests run
from the same table.

- A message is taken as a whole or not at all. What is refused leaves no reading, no device and no metric behind.
- Every refusal names the field by an RFC 6901 pointer into the item, in the answer's \`errors\` and in the dead letter.
- What is refused is kept in the dead letters with its original bytes, and can be replayed after a fix (\`kymo dlq\`).
  They are kept for 30 days and up to 64 MiB of them, 262,144 in number: then the oldest go, and \`kymo_dlq_forgotten_total\` counts those that nobody had
  replayed or dismissed. A refused item of a few bytes is a letter of some 400: two bodies of 100,000 bad items can push out what was there before.
- An item of an array or a line of NDJSON is judged alone: the answer is 207 when some were taken, and \`results\` names the others.
- On S2's routes (\`/ingest\` with \`metric\`, \`/ingest/batch\`) what is refused is 400. The seeds' routes answer 200 where ours answers 202.
- On \`/api/v2/write\` and \`/write\` each line is judged alone; refused ones make the answer 400 in InfluxDB's form, with our codes in \`results\`.
- On MQTT a refused message is acknowledged once its dead letter is durable; the code stands there. An array is acknowledged once all of it is
  durable, each bad item in a dead letter of its own.
- On MQTT a message over the packet limit (1 MiB) ends the connection, as the standard allows no other answer; its size and first 4 KiB are kept as
  \`body_too_large\`, unless its address sends too many such. No bytes with RETAIN clear a retained message: acknowledged, no dead letter.
- 429 (new devices arrive faster than the limit, or overload) is no fault of the message: it is neither stored nor kept; send it again.
`

/** docs/reference/bad-input.md. */
export function tableAsMarkdown(): string {
  const lines = [
    intro,
    '| input | example | where | status | code | field | readings stored | dead letters | |',
    '|---|---|---|---|---|---|---|---|---|',
  ]
  for (const row of badInput) {
    const where = row.routes.map((route) => (route === 'mqtt' ? 'MQTT' : routePaths[route].replace('POST ', ''))).join(', ')
    const codes = row.results === undefined ? (row.code ?? '') : row.results.map(({ index, code }) => `item ${index}: ${code}`).join(', ')
    const field = row.pointer === undefined ? '' : row.pointer === '' ? '(the whole)' : code(cut(row.pointer))
    lines.push(`| ${[cell(row.name), code(example(row)), where, row.status, codes, field, row.stored, row.deadLetters, cell(row.why)].join(' | ')} |`)
  }
  return `${lines.join('\n')}\n`
}

function example(row: BadInput): string {
  const body = row.shown ?? Buffer.from(row.body('d')).toString('utf8')
  const before = row.before === undefined || row.shown !== undefined ? '' : `${row.before('d').join(' ')} then `
  return cut(before + (row.topic === undefined ? '' : `${row.topic('d')} `) + body, 160)
}

function cut(text: string, max = 40): string {
  return text.length > max ? `${text.slice(0, max)}…` : text
}

/** Visible whatever it holds: control characters as escapes, and nothing that ends a cell or the code in it. */
function code(text: string): string {
  const visible = text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (c) => (c === '\n' ? '⏎' : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`))
  return `\`${cell(visible)}\``
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|')
}
