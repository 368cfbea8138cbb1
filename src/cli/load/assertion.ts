import { InvalidArgumentError } from 'commander'
import { count, milliseconds } from '../format.ts'

export const measures = ['lost', 'doubled', 'wrong', 'errors', 'sent', 'acked', 'stored', 'rate', 'p50', 'p95', 'p99', 'max'] as const
export type Measure = (typeof measures)[number]
const operators = ['==', '!=', '<=', '>=', '<', '>'] as const
type Comparison = (typeof operators)[number]

export interface Assertion {
  readonly measure: Measure
  readonly comparison: Comparison
  /** Milliseconds for latencies. */
  readonly bound: number
  readonly text: string
}

const latencies: ReadonlySet<Measure> = new Set(['p50', 'p95', 'p99', 'max'])
const unitMs: Readonly<Record<string, number>> = { us: 1e-3, ms: 1, s: 1_000 }

/** `lost==0,p99<250ms`: a measure, a comparison, a number; latencies with us, ms or s (bare: ms). */
export function parseAssertions(text: string): Assertion[] {
  const parts = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
  if (parts.length === 0) throw new InvalidArgumentError("Nothing is asserted. Try 'lost==0,p99<250ms'.")
  return parts.map(parseOne)
}

function parseOne(text: string): Assertion {
  const match = /^([a-z0-9]+)\s*(==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)?)\s*(us|ms|s)?$/.exec(text)
  if (match === null) throw new InvalidArgumentError(`"${text}" is not of the form p99<250ms.`)
  const measure = measures.find((known) => known === match[1])
  if (measure === undefined) throw new InvalidArgumentError(`"${match[1]}" is not measured. Known: ${measures.join(', ')}.`)
  const comparison = operators.find((known) => known === match[2])
  const unit = match[4]
  if (unit !== undefined && !latencies.has(measure)) throw new InvalidArgumentError(`"${text}": ${measure} is a count and has no unit.`)
  const bound = Number(match[3]) * (unitMs[unit ?? 'ms'] ?? 1)
  return {
    measure,
    comparison: comparison ?? '==',
    bound,
    text: `${measure} ${comparison} ${match[3]}${unit ?? (latencies.has(measure) ? 'ms' : '')}`,
  }
}

export interface Judged {
  readonly assertion: Assertion
  readonly value: number
  readonly holds: boolean
}

/** A measure without a value (no acknowledgement, so no latency) holds no assertion. */
export function judge(assertions: readonly Assertion[], values: Readonly<Record<Measure, number>>): Judged[] {
  return assertions.map((assertion) => ({
    assertion,
    value: values[assertion.measure],
    holds: compare(values[assertion.measure], assertion.comparison, assertion.bound),
  }))
}

function compare(value: number, comparison: Comparison, bound: number): boolean {
  if (Number.isNaN(value)) return false
  switch (comparison) {
    case '==':
      return value === bound
    case '!=':
      return value !== bound
    case '<':
      return value < bound
    case '<=':
      return value <= bound
    case '>':
      return value > bound
    case '>=':
      return value >= bound
  }
}

export function shown(judged: Judged): string {
  const { measure } = judged.assertion
  return latencies.has(measure) ? `${measure}=${milliseconds(judged.value)}` : count(judged.value)
}
