import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { KymoError } from '../../src/core/errors.ts'
import { CellReader, nameCell, nameOf, textCell } from '../../src/wire/table/cell.ts'
import { csvCell, parseCsv, RecordBlocks } from '../../src/wire/table/csv.ts'
import { TableMessages } from '../../src/wire/table/messages.ts'
import { planTable, type PlanOptions } from '../../src/wire/table/plan.ts'
import { formatsOf, timeReader } from '../../src/wire/table/time-format.ts'
import { fuzzRuns } from '../support/effort.ts'

function blocksOf(bytes: Buffer, cut: number, delimiter?: string): { text: string; line: number; end: number }[] {
  const blocks = new RecordBlocks(delimiter === undefined ? {} : { delimiter })
  const out = []
  for (let at = 0; at < bytes.length; at += cut) out.push(blocks.push(bytes.subarray(at, at + cut)))
  out.push(blocks.end())
  return out.filter((block) => block !== undefined).map(({ bytes: text, line, end }) => ({ text: text.toString(), line, end }))
}

const piece = fc.string({ unit: fc.constantFrom('a', '1', ',', '"', '\n', '\r', ' ', 'é', ';'), maxLength: 6 })

test('RFC 4180: what was quoted comes back, with its line, however the bytes are cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(piece, piece, piece), { minLength: 1, maxLength: 6 }),
      fc.constantFrom('\n', '\r\n'),
      fc.integer({ min: 1, max: 20 }),
      fc.boolean(),
      (rows, end, cut, last) => {
        const records = rows.map((row) => row.map(csvCell).join(','))
        const bytes = Buffer.from(records.join(end) + (last ? end : ''))
        const found = blocksOf(bytes, cut, ',').flatMap(({ text, line }) => parseCsv(text, ',', line))
        assert.deepEqual(
          found.map(({ cells }) => cells),
          rows.map((row) => [...row]),
        )
        let line = 1
        for (const [i, record] of records.entries()) {
          assert.equal(found[i]?.line, line)
          line += (record + end).split('\n').length - 1
        }
      },
    ),
    fuzzRuns(1_000),
  )
})

test('a block ends where reading can begin anew: each position gives the rest of the records', () => {
  const bytes = Buffer.from('a,b\n"x\ny",2\n5" pipe,"q""q"\r\n\n3,4')
  const whole = parseCsv(bytes.toString(), ',', 1)
  assert.deepEqual(
    whole.map(({ line, cells }) => [line, ...cells]),
    [
      [1, 'a', 'b'],
      [2, 'x\ny', '2'],
      [4, '5" pipe', 'q"q'],
      [6, '3', '4'],
    ],
  )
  for (let cut = 1; cut <= bytes.length; cut++) {
    for (const { line, end, text } of blocksOf(bytes, cut, ',')) {
      const before = parseCsv(bytes.toString('utf8', 0, end), ',', 1).length
      const next = line + text.split('\n').length - 1
      assert.deepEqual(
        parseCsv(bytes.toString('utf8', end), ',', next).map((row) => row.cells),
        whole.slice(before).map((row) => row.cells),
        `cut ${cut}, end ${end}`,
      )
    }
  }
})

test('a quote that is never closed, and a record without end, are errors that name the line', () => {
  assert.throws(() => blocksOf(Buffer.from('a,b\n"never,1\n2,3\n'), 5, ','), /line 2: a quote is opened/)
  assert.throws(() => blocksOf(Buffer.alloc(3 << 20, 'x'), 1 << 18, ','), /line 1: a record of more than 1048576 bytes/)
})

test('cells: numbers, decimal commas, missing values, booleans, text', () => {
  const plain = new CellReader({ decimalComma: false, missing: ['-200', 'err'] })
  const read = (cell: string): string | undefined => plain.json(cell)
  assert.deepEqual(['1', ' 2.50 ', '-0.5', '1e3', '+7'].map(read), ['1', '2.5', '-0.5', '1000', '7'])
  assert.deepEqual(
    ['', ' ', 'NaN', 'null', '-', '-200.0', 'ERR'].map(read),
    Array.from({ length: 7 }, () => undefined),
  )
  assert.deepEqual(['true', 'FALSE', 'on', '0x1f', '1,5', '12:30'].map(read), ['true', 'false', '"on"', '"0x1f"', '"1,5"', '"12:30"'])
  assert.equal(read('12345678901234567890'), '12345678901234567890')
  const comma = new CellReader({ decimalComma: true, missing: [] })
  assert.deepEqual(
    ['2,6', '1.234,5', '1.234.567', '3'].map((cell) => comma.json(cell)),
    ['2.6', '1234.5', '"1.234.567"', '3'],
  )
})

test('text and names written as cells come back as they were, and no spreadsheet runs them', () => {
  const reader = new CellReader({ decimalComma: false, missing: [] })
  const texts = fc.oneof(fc.string(), fc.constantFrom('=1+1', '-5', "'=x", "''", '25.5', 'NA', 'true', ' pad ', '@x', "'t Hooft", '\tx', '+'))
  fc.assert(
    fc.property(texts, (text) => {
      const cell = textCell(text)
      assert.doesNotMatch(cell, /^[=+\-@\t\r]/)
      const back = reader.json(cell)
      if (text !== '') assert.equal(back, JSON.stringify(text))
      if (text.trim() === text && text !== '') assert.equal(nameOf(nameCell(text)), text)
    }),
    fuzzRuns(2_000),
  )
})

const berlin = (text: string, series = 'd'): string => {
  const us = timeReader('auto', 'Europe/Berlin')!(text, series)
  return Number.isNaN(us) ? 'none' : new Date(us / 1e3).toISOString()
}

test('local times: summer and winter, a time that never was, an offset in the cell that wins', () => {
  assert.equal(berlin('2026-07-01 12:00:00'), '2026-07-01T10:00:00.000Z')
  assert.equal(berlin('2026-01-01 12:00:00'), '2026-01-01T11:00:00.000Z')
  // On 29 March 2026 the clock jumps from 02:00 to 03:00.
  assert.equal(berlin('2026-03-29 02:30:00'), '2026-03-29T01:30:00.000Z')
  assert.equal(berlin('2026-03-29 03:30:00'), '2026-03-29T01:30:00.000Z')
  assert.equal(berlin('2026-07-01T12:00:00Z'), '2026-07-01T12:00:00.000Z')
  assert.equal(timeReader('s', 'Europe/Berlin')!('1700000000', 'd'), 1_700_000_000e6)
})

test('the hour that stands twice: the second time round a series is an hour later, whatever its neighbours do', () => {
  const read = timeReader('auto', 'Europe/Berlin')!
  // On 25 October 2026 the clock goes back from 03:00 to 02:00.
  const clock = ['01:40', '02:00', '02:20', '02:40', '02:00', '02:20', '02:40', '03:00']
  const minutes = clock.map((text) => (read(`2026-10-25 ${text}:00`, 'a') / 6e7) % 1440)
  assert.deepEqual(minutes, [1420, 0, 20, 40, 60, 80, 100, 120])
  assert.deepEqual(
    ['02:00', '02:00', '03:00'].map((text) => (read(`2026-10-25 ${text}:00`, 'hourly') / 6e7) % 1440),
    [0, 60, 120],
  )
  assert.equal((read('2026-10-25 02:40:00', 'late starter') / 6e7) % 1440, 40)
})

test('formats: found where only one reads all cells; ambiguous ones are all named', () => {
  assert.deepEqual(formatsOf(['2004/3/10 18:00', '2026-11-20T10:00:00+01:00', '1700000000']), ['auto'])
  assert.deepEqual(formatsOf(['10/03/2004 18.00.00', '13/03/2004 19.00.00']), ['DD/MM/YYYY HH.mm.ss'])
  assert.deepEqual(formatsOf(['03/04/2026 10:00']), ['DD/MM/YYYY HH:mm', 'MM/DD/YYYY HH:mm'])
  assert.deepEqual(formatsOf(['31.12.2025 23:59:59']), ['DD.MM.YYYY HH:mm:ss'])
  const us = timeReader('MM/DD/YYYY hh A', 'UTC')
  assert.equal(us?.('12/31/2025 11 PM', 'd') ?? Number.NaN, Number.NaN, 'hh is no token: HH is')
  assert.equal(timeReader('MM/DD/YYYY HH A', 'UTC')!('12/31/2025 11 PM', 'd'), Date.UTC(2025, 11, 31, 23) * 1e3)
  assert.equal(timeReader('nonsense', 'UTC'), undefined)
  assert.ok(Number.isNaN(timeReader('auto', 'UTC')!('2026-02-30', 'd')))
})

function mapped(csv: string, o: PlanOptions = {}, delimiter = ','): { messages: unknown[]; rejects: string[]; missing: number } {
  const [header, ...rows] = parseCsv(csv, delimiter, 1)
  const columns = header!.cells.map((name) => ({ name, kind: 'any' as const }))
  const plan = planTable(
    columns,
    rows.map(({ cells }) => cells),
    false,
    'file',
    o,
  )
  const messages: unknown[] = []
  const rejects: string[] = []
  const table = new TableMessages(plan, {
    message: (json) => void messages.push(JSON.parse(json)),
    reject: (line, reason) => void rejects.push(`${line}: ${reason}`),
  })
  for (const { cells, line, text } of rows) table.row(cells, line, () => text)
  table.flush()
  return { messages, rejects, missing: table.missing }
}

test('a wide table: the original of the UCI air quality file, with its semicolons, decimal commas and two time columns', () => {
  const { messages, missing } = mapped(
    'Date;Time;CO(GT);T;RH\n10/03/2004;18.00.00;2,6;13,6;48,9\n13/03/2004;19.00.00;-200;13,3;47,7\n',
    { missing: ['-200'], columns: ['CO(GT)', 'T=temperature'], timeZone: 'Europe/Rome' },
    ';',
  )
  assert.deepEqual(messages, [
    { device: 'file', time: Date.UTC(2004, 2, 10, 17) * 1e3, values: { 'CO(GT)': 2.6, temperature: 13.6 } },
    { device: 'file', time: Date.UTC(2004, 2, 13, 18) * 1e3, values: { temperature: 13.3 } },
  ])
  assert.equal(missing, 1)
})

test('a long table: rows of one device and time make one message; metadata keeps its own; units are said once', () => {
  const { messages, rejects } = mapped(
    'time,device,metric,value,unit,metadata\n' +
      '2026-01-01T00:00:00Z,d1,t,1,C,\n2026-01-01T00:00:00Z,d1,h,2,,\n2026-01-01T00:00:00Z,d1,p,3,,"{""a"":1}"\n' +
      '2026-01-01T00:00:01Z,d1,t,4,C,\nnever,d1,t,5,C,\n2026-01-01T00:00:02Z,,t,6,C,\n2026-01-01T00:00:02Z,d1,t\n',
  )
  const us = Date.UTC(2026, 0, 1) * 1e3
  assert.deepEqual(messages, [
    { device: 'd1', time: us, values: { t: 1, h: 2 }, unit: { t: 'C' } },
    { device: 'd1', time: us, values: { p: 3 }, metadata: { a: 1 } },
    { device: 'd1', time: us + 1e6, values: { t: 4 } },
  ])
  assert.deepEqual(
    rejects.map((text) => text.slice(0, 22)),
    ['6: "never" in column "', '7: no device in its co', '8: 3 cells where the h'],
  )
})

test('what cannot be found is asked for, by the option that settles it', () => {
  const refused = (csv: string, o: PlanOptions, pattern: RegExp): void =>
    assert.throws(
      () => mapped(csv, o),
      (error: unknown) => error instanceof KymoError && error.code === 'usage' && pattern.test(error.message),
    )
  refused('a,b\n1,2\n', {}, /no column looks like the time; name it with --time-column. Columns: a, b/)
  refused('time,temperature\n1,2\n', { columns: ['temprature'] }, /did you mean "temperature"/)
  refused('time,a\n03/04/2026,1\n', {}, /reads as DD\/MM\/YYYY and as MM\/DD\/YYYY; say which with --time-format/)
  refused('time,a\nyesterday,1\n', {}, /is not understood \("yesterday"\)/)
  refused('time,a\n1,1\n', { metricColumn: 'a' }, /both --metric-column and --value-column/)
})
