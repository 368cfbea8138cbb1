import process from 'node:process'
import fc from 'fast-check'

/**
 * How much the tests do that could go on for ever. Without these variables it is what fits every change; .ci/long asks for more:
 * - KYMO_TEST_SEEDS: simulated histories, in each test that simulates;
 * - KYMO_TEST_KILLS: processes killed, in each test that kills;
 * - KYMO_TEST_RUNS: histories of a real store beside its model;
 * - KYMO_TEST_FUZZ: cases of the fuzz tests whose usual number is `fuzzUnit`; the others do as many times their own usual number;
 * - KYMO_TEST_SPEED: how many times as fast as they were recorded the real series run; less takes longer;
 * - KYMO_TEST_SOAK_S: seconds of steady load;
 * - KYMO_TEST_CHAOS_S: seconds during which processes and engines of a deployment are killed.
 */
type Name = 'KYMO_TEST_SEEDS' | 'KYMO_TEST_KILLS' | 'KYMO_TEST_RUNS' | 'KYMO_TEST_FUZZ' | 'KYMO_TEST_SPEED' | 'KYMO_TEST_SOAK_S' | 'KYMO_TEST_CHAOS_S'

const fuzzUnit = 20_000

/** Of one fuzz test, when nobody has asked for a number of cases: a slow machine does fewer. */
const fuzzMsMax = 10_000

/** A number that is no number would be a loop that never runs, and a test that passes. */
function asked(name: Name): number | undefined {
  const text = process.env[name]
  if (text === undefined) return undefined
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`${name}=${text} is not a whole number from 1 up`)
  return value
}

export const seedCount = (usual: number): number => asked('KYMO_TEST_SEEDS') ?? usual

export const replaySpeed = (usual: number): number => asked('KYMO_TEST_SPEED') ?? usual

export const soakSeconds = (usual: number): number => asked('KYMO_TEST_SOAK_S') ?? usual

export const chaosSeconds = (usual: number): number => asked('KYMO_TEST_CHAOS_S') ?? usual

export const killCount = (usual: number): number => asked('KYMO_TEST_KILLS') ?? usual

/** For a property over a real store. A long run ends at its first failure: to shrink it would take longer than the run. */
export function modelRuns(usual: number): { readonly numRuns: number; readonly endOnFailure: boolean } {
  const wanted = asked('KYMO_TEST_RUNS')
  return { numRuns: wanted ?? usual, endOnFailure: wanted !== undefined }
}

/** For a property that fuzzes. */
export function fuzzRuns(usual: number): { readonly numRuns: number; readonly plugins: ReturnType<typeof fc.interruptAfterTimeLimit>[] } {
  const wanted = asked('KYMO_TEST_FUZZ')
  if (wanted === undefined) return { numRuns: usual, plugins: [fc.interruptAfterTimeLimit(fuzzMsMax)] }
  return { numRuns: Math.ceil((usual * wanted) / fuzzUnit), plugins: [] }
}

/** For a loop that fuzzes: the numbers of its cases. */
export function* fuzzCases(usual: number): Generator<number, void, undefined> {
  const { numRuns, plugins } = fuzzRuns(usual)
  const until = plugins.length === 0 ? Number.POSITIVE_INFINITY : performance.now() + fuzzMsMax
  for (let i = 0; i < numRuns; i++) {
    if (i % 100 === 0 && performance.now() > until) return
    yield i
  }
}
