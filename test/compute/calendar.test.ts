import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { borderFrom, bordersWithin } from '../../src/core/buckets.ts'
import { calendarBorders, isTimeZone, startOfDate } from '../../src/core/calendar.ts'
import type { Calendar, CalendarUnit } from '../../src/core/calendar.ts'
import type { RangeQuery } from '../../src/core/ports.ts'
import { fuzzRuns } from '../support/effort.ts'

const us = (text: string): number => Date.parse(text) * 1000
const iso = (borders: Float64Array): string[] => Array.from(borders, (border) => new Date(border / 1000).toISOString().replace('.000Z', 'Z'))
const hour = 3600e6
const units: readonly CalendarUnit[] = ['day', 'week', 'month', 'year']
const zones = [...Intl.supportedValuesOf('timeZone'), 'UTC']

const formats = new Map<string, Intl.DateTimeFormat>()

/** The date of a moment as the zone's calendar prints it; what `core/calendar.ts` does not use. */
function printer(timeZone: string): (timeUs: number) => string {
  let format = formats.get(timeZone)
  if (format === undefined) formats.set(timeZone, (format = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short' })))
  return (timeUs) => format.format(Math.floor(timeUs / 1000))
}

/** The name of the bucket that holds a date. */
function nameOf(unit: CalendarUnit, date: string): string {
  if (unit === 'day') return date
  if (unit === 'month') return date.slice(0, 7)
  if (unit === 'year') return date.slice(0, 4)
  const at = Date.parse(date)
  return new Date(at - ((new Date(at).getUTCDay() + 6) % 7) * 86_400_000).toISOString().slice(0, 10)
}

test('days of 23 and 25 hours', () => {
  const spring = calendarBorders({ unit: 'day', timeZone: 'Europe/Berlin' }, us('2026-03-28T12:00:00Z'), us('2026-03-30T12:00:00Z'))
  assert.deepEqual(iso(spring), ['2026-03-27T23:00:00Z', '2026-03-28T23:00:00Z', '2026-03-29T22:00:00Z', '2026-03-30T22:00:00Z'])
  const autumn = calendarBorders({ unit: 'day', timeZone: 'Europe/Berlin' }, us('2026-10-25T00:00:00Z'), us('2026-10-25T00:00:01Z'))
  assert.equal(autumn[1]! - autumn[0]!, 25 * hour)
  const halfHour = calendarBorders({ unit: 'day', timeZone: 'Australia/Lord_Howe' }, us('2026-04-05T00:00:00Z'), us('2026-04-05T00:00:01Z'))
  assert.equal(halfHour[1]! - halfHour[0]!, 24.5 * hour)
})

test('midnight that is skipped or comes twice, and a day that never was', () => {
  // Beirut 2021-03-28: 00:00 became 01:00. Cairo 2014: the clock went back at midnight, so the day before it has an hour more.
  assert.deepEqual(iso(calendarBorders({ unit: 'day', timeZone: 'Asia/Beirut' }, us('2021-03-28T12:00:00Z'), us('2021-03-28T12:00:01Z'))), [
    '2021-03-27T22:00:00Z',
    '2021-03-28T21:00:00Z',
  ])
  // St John's set its clock back at 00:01, by an hour: the day began a minute before, and what follows belongs to it.
  const john = calendarBorders({ unit: 'day', timeZone: 'America/St_Johns' }, us('2010-11-07T02:45:00Z'), us('2010-11-07T02:45:01Z'))
  assert.deepEqual(iso(john), ['2010-11-07T02:30:00Z', '2010-11-08T03:30:00Z'])
  // Apia had no 30 December 2011.
  assert.deepEqual(iso(calendarBorders({ unit: 'day', timeZone: 'Pacific/Apia' }, us('2011-12-29T12:00:00Z'), us('2011-12-31T09:00:00Z'))), [
    '2011-12-29T10:00:00Z',
    '2011-12-30T10:00:00Z',
    '2011-12-31T10:00:00Z',
  ])
})

test('weeks begin on Monday, months and years on their first day', () => {
  const berlin = (unit: CalendarUnit, from: string, to: string): string[] =>
    iso(calendarBorders({ unit, timeZone: 'Europe/Berlin' }, us(from), us(to)))
  assert.deepEqual(berlin('week', '2026-01-01T00:00:00Z', '2026-01-05T00:00:00Z'), [
    '2025-12-28T23:00:00Z',
    '2026-01-04T23:00:00Z',
    '2026-01-11T23:00:00Z',
  ])
  assert.deepEqual(berlin('month', '2026-03-31T22:00:00Z', '2026-04-01T00:00:00Z'), ['2026-03-31T22:00:00Z', '2026-04-30T22:00:00Z'])
  assert.deepEqual(berlin('year', '2025-12-31T22:59:59Z', '2025-12-31T23:00:00Z'), ['2024-12-31T23:00:00Z', '2025-12-31T23:00:00Z'])
  assert.deepEqual(iso(calendarBorders({ unit: 'week', timeZone: 'UTC' }, 0, 1)), ['1970-01-01T00:00:00Z', '1970-01-05T00:00:00Z'])
})

test('in every zone, at every border the printed calendar turns, and nowhere else', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...zones),
      fc.constantFrom(...units),
      fc.integer({ min: us('1971-01-02T00:00:00Z'), max: us('2090-12-31T00:00:00Z') }),
      fc.integer({ min: 0, max: 60 * 24 }),
      (timeZone, unit, fromUs, hours) => {
        const toUs = fromUs + hours * hour + 1
        const borders = calendarBorders({ unit, timeZone }, fromUs, toUs)
        assert.ok(borders[0]! <= fromUs && borders[1]! > fromUs && borders.at(-1)! >= toUs && borders.at(-2)! < toUs, iso(borders).join(' '))
        const print = printer(timeZone)
        const latest = (timeUs: number): string => nameOf(unit, print(timeUs))
        for (let i = 0; i + 1 < borders.length; i++) {
          const [start, end] = [borders[i]!, borders[i + 1]!]
          assert.ok(start < end)
          assert.ok(latest(start - 1e6) < latest(start), `${timeZone} ${unit} ${iso(borders).join(' ')}`)
          // Set back over midnight, the calendar may once more print the day before, for less than a day.
          for (let k = 0; k < 5; k++) assert.ok(latest(start + ((end - start) * k) / 5) <= latest(start))
          assert.ok(latest(end - 1e6) <= latest(start))
        }
      },
    ),
    fuzzRuns(300),
  )
})

test('every day of 60 years, in zones of all kinds, is one bucket', () => {
  for (const timeZone of [
    'Europe/Berlin',
    'America/St_Johns',
    'Africa/Casablanca',
    'Asia/Kathmandu',
    'Pacific/Apia',
    'Antarctica/Troll',
    'America/Sao_Paulo',
  ]) {
    const borders = calendarBorders({ unit: 'day', timeZone }, us('1975-01-01T00:00:00Z'), us('2035-01-01T00:00:00Z'))
    const print = printer(timeZone)
    const names = new Set(Array.from(borders, (border) => print(border)))
    assert.equal(names.size, borders.length, timeZone)
    for (let i = 1; i < borders.length; i++) assert.ok(borders[i]! - borders[i - 1]! >= 21 * hour && borders[i]! - borders[i - 1]! <= 28 * hour)
  }
})

test('buckets of a page are those of the whole, from either end', () => {
  const base: RangeQuery = {
    match: { tenant: 'default' },
    fromUs: us('2026-02-10T03:00:00Z'),
    toUs: us('2026-06-01T00:00:00Z'),
    order: 'asc',
    limit: 1,
  }
  const calendar: Calendar = { unit: 'month', timeZone: 'America/New_York' }
  for (const query of [
    { ...base, calendar },
    { ...base, stepUs: 7 * 86_400e6 },
  ]) {
    const whole = bordersWithin(query, base.fromUs, base.toUs, 1000)
    assert.ok(whole[0]! <= base.fromUs && whole.at(-1)! >= base.toUs)
    assert.deepEqual(bordersWithin(query, base.fromUs, base.toUs, 2), whole.slice(0, 3))
    assert.deepEqual(bordersWithin({ ...query, order: 'desc' }, base.fromUs, base.toUs, 2), whole.slice(-3))
    for (const border of whole) assert.deepEqual([borderFrom(query, border), borderFrom(query, border + 1)], [border, borderFrom(query, border + 2)])
  }
})

test('names of zones, and dates in them', () => {
  assert.deepEqual(['Europe/Berlin', 'UTC', 'Europe/Atlantis', '', 'x\u0000'].map(isTimeZone), [true, true, false, false, false])
  assert.equal(startOfDate('Europe/Berlin', '2026-10-01'), us('2026-09-30T22:00:00Z'))
  assert.deepEqual(
    ['2026-02-30', '2026-1-1', 'now'].map((text) => startOfDate('UTC', text)),
    [undefined, undefined, undefined],
  )
})
