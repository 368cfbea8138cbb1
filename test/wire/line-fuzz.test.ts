import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { parseLine } from '../../src/wire/line/parse.ts'
import { fuzzCases } from '../support/effort.ts'
import { Bench, split } from './line-bench.ts'
import { LineNoise, referenceParse } from './line-fuzz.ts'

describe('line protocol, fuzzed', () => {
  it('the parser and the reference agree', () => {
    const noise = new LineNoise(7)
    let good = 0
    let all = 0
    for (const i of fuzzCases(20_000)) {
      all++
      const line = noise.line()
      const bytes = i % 3 === 0 ? Buffer.from(line) : noise.mutated(line)
      const wanted = referenceParse(bytes)
      let got: ReturnType<typeof parseLine> | undefined
      try {
        got = parseLine(bytes, 0, bytes.length, 0)
      } catch (error) {
        assert.ok(error instanceof KymoError && error.kind === 'invalid' && error.details.errors?.length === 1, String(error))
      }
      const plain =
        got === undefined
          ? undefined
          : {
              measurement: got.measurement,
              tags: got.tags.map((tag) => [...tag]),
              fields: got.fields.map(({ name, kind, value, text }) => ({ name, kind, value, text })),
              timeUs: got.timeUs,
            }
      assert.deepStrictEqual(plain, wanted, JSON.stringify(bytes.toString('latin1')))
      if (wanted !== undefined) good++
    }
    assert.ok(good > all / 10 && good < (all * 9) / 10, `${good} of ${all} were good`)
  })

  it('the fast lane gives what the parser gives', () => {
    const noise = new LineNoise(11)
    const fast = new Bench()
    const slow = new Bench({ fastLane: false })
    const pool = Array.from({ length: 200 }, () => goodLine(noise))
    let all = 0
    for (const _ of fuzzCases(20_000)) {
      all++
      const base = noise.random.pick(pool)
      const bytes = noise.random.below(3) === 0 ? noise.mutated(base) : Buffer.from(withOtherValues(base, noise))
      const [one, other] = [fast.take(bytes), slow.take(bytes)]
      const shown = JSON.stringify(bytes.toString('latin1'))
      assert.equal(one?.code, other?.code, shown)
      if (one === undefined) assert.equal(fast.payload.ownTime, slow.payload.ownTime, shown)
      assert.deepStrictEqual(fast.rows(), slow.rows(), shown)
      fast.out.reset()
      slow.out.reset()
    }
    assert.ok(fast.lines.fastLines > all / 10, `${fast.lines.fastLines} of ${all} took the fast lane`)
  })

  it('lines among other lines are found as they are', () => {
    const noise = new LineNoise(13)
    for (const _ of fuzzCases(400)) {
      const wanted: [number, string][] = []
      let body = ''
      for (let line = 1, n = noise.random.below(8); n > 0; n--) {
        const text = noise.random.pick([() => '# comment "', () => '', () => goodLine(noise).trim()])()
        body += `${text}${noise.random.pick(['\n', '\r\n'])}`
        if (text !== '' && !text.startsWith('#')) wanted.push([line, text])
        line += text.split('\n').length
      }
      assert.deepStrictEqual(split(body), wanted, JSON.stringify(body))
    }
  })
})

function goodLine(noise: LineNoise): string {
  for (;;) {
    const line = noise.line()
    if (referenceParse(Buffer.from(line)) !== undefined) return line
  }
}

/** The same fields in the same place with other values: what the next line of a sender looks like. */
function withOtherValues(line: string, noise: LineNoise): string {
  const value = (): string => (noise.random.below(8) === 0 ? noise.value() : String(noise.random.next() * 10 ** noise.random.below(8)))
  return line.replaceAll(/(?<==)-?\d+\.\d+/g, value).replace(/ \d{10,}$/, () => ` ${noise.time()}`)
}
