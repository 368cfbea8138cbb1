import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { LineScanner } from '../../src/wire/line/scan.ts'
import { fuzzCases } from '../support/effort.ts'
import { scanned, split } from './line-bench.ts'
import { goodLine, LineNoise, referenceParse } from './line-fuzz.ts'

describe('line protocol, fuzzed', () => {
  it('the scanner and the reference agree', () => {
    const noise = new LineNoise(7)
    const scan = new LineScanner()
    let good = 0
    let all = 0
    for (const i of fuzzCases(20_000)) {
      all++
      const line = noise.line()
      const bytes = i % 3 === 0 ? Buffer.from(line) : noise.mutated(line)
      const wanted = referenceParse(bytes)
      const got = scanned(scan, bytes)
      if (got instanceof KymoError) assert.ok(got.kind === 'invalid' && got.details.errors?.length === 1, String(got))
      const plain = got instanceof KymoError ? undefined : got
      assert.deepStrictEqual(plain, wanted, JSON.stringify(bytes.toString('latin1')))
      if (wanted !== undefined) good++
    }
    assert.ok(good > all / 10 && good < (all * 9) / 10, `${good} of ${all} were good`)
  })

  it('numbers of any length and exponent are those that the runtime reads', () => {
    const { random } = new LineNoise(17)
    const scan = new LineScanner()
    const digits = (most: number): string => Array.from({ length: 1 + random.below(most) }, () => random.below(10)).join('')
    for (const _ of fuzzCases(20_000)) {
      const exponent = random.pick(['', '', `e${random.below(30)}`, `E-${random.below(30)}`, `e+${random.below(340)}`, `e-${random.below(340)}`])
      const text = `${random.pick(['', '-', '+'])}${digits(20)}${random.pick(['', '.', `.${digits(25)}`])}${exponent}`
      const bytes = Buffer.from(`m f=${text}`)
      const wanted = Number(text)
      const got = scanned(scan, bytes)
      if (Number.isFinite(wanted)) assert.ok(!(got instanceof KymoError) && Object.is(got.fields[0]!.value, wanted + 0), text)
      else assert.equal(got instanceof KymoError && got.code, 'value_not_finite', text)
    }
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
