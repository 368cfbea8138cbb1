import type { Loops } from './loops.ts'

const { fround, sqrt, floor, min, max } = Math

/** 2^(i - 127). */
const powers = Float32Array.from({ length: 255 }, (_, i) => 2 ** (i - 127))
const log2e = fround(Math.LOG2E)
const [ln2High, ln2Low] = [fround(0.693359375), fround(-2.1219444e-4)]
const [p0, p1, p2] = [fround(1.98756915e-4), fround(1.3981999507e-3), fround(8.3334519073e-3)]
const [p3, p4, p5] = [fround(4.1665795894e-2), fround(1.6666665459e-1), fround(5.0000001201e-1)]

/**
 * The loops of tools/kernels/lstm.as without vectors. Every operation is rounded to single precision by itself: of a sum, product, quotient or root of
 * two floats in doubles, the nearest float is what a processor gives that computes in floats, so the bits are the same.
 */
export function plainLoops(memory: () => Float32Array): Loops {
  return {
    multiply(m, n, k, a, aRow, aColumn, b, bRow, c, cRow, add) {
      const f = memory()
      for (let i = 0; i < m; i++) {
        const from = a + i * aRow
        // Eight sums at a time, n being a multiple of 8: they stay in registers, and do not wait for each other.
        for (let j = 0; j < n; j += 8) {
          const to = c + i * cRow + j
          let [s0, s1, s2, s3, s4, s5, s6, s7] = [0, 0, 0, 0, 0, 0, 0, 0]
          if (add === 1) {
            s0 = f[to]!
            s1 = f[to + 1]!
            s2 = f[to + 2]!
            s3 = f[to + 3]!
            s4 = f[to + 4]!
            s5 = f[to + 5]!
            s6 = f[to + 6]!
            s7 = f[to + 7]!
          }
          for (let l = 0, x = from, y = b + j; l < k; l++, x += aColumn, y += bRow) {
            const by = f[x]!
            s0 = fround(s0 + fround(by * f[y]!))
            s1 = fround(s1 + fround(by * f[y + 1]!))
            s2 = fround(s2 + fround(by * f[y + 2]!))
            s3 = fround(s3 + fround(by * f[y + 3]!))
            s4 = fround(s4 + fround(by * f[y + 4]!))
            s5 = fround(s5 + fround(by * f[y + 5]!))
            s6 = fround(s6 + fround(by * f[y + 6]!))
            s7 = fround(s7 + fround(by * f[y + 7]!))
          }
          f[to] = s0
          f[to + 1] = s1
          f[to + 2] = s2
          f[to + 3] = s3
          f[to + 4] = s4
          f[to + 5] = s5
          f[to + 6] = s6
          f[to + 7] = s7
        }
      }
    },
    forward(rows, units, z, before, state, squashed, h, hRow) {
      const m = memory()
      for (let b = 0; b < rows; b++) {
        for (let u = 0; u < units; u++) {
          const [place, zi] = [b * units + u, z + 4 * b * units + u]
          const [zf, zg, zo] = [zi + units, zi + 2 * units, zi + 3 * units]
          const [i, f, g, o] = [sigmoid(m[zi]!), sigmoid(m[zf]!), tanh(m[zg]!), sigmoid(m[zo]!)]
          const c = fround(fround(f * m[before + place]!) + fround(i * g))
          const t = tanh(c)
          m[zi] = i
          m[zf] = f
          m[zg] = g
          m[zo] = o
          m[state + place] = c
          m[squashed + place] = t
          m[h + b * hRow + u] = o * t
        }
      }
    },
    backward(rows, units, z, before, squashed, dH, dState) {
      const m = memory()
      for (let b = 0; b < rows; b++) {
        for (let u = 0; u < units; u++) {
          const [place, zi] = [b * units + u, z + 4 * b * units + u]
          const [zf, zg, zo] = [zi + units, zi + 2 * units, zi + 3 * units]
          const [i, f, g, o] = [m[zi]!, m[zf]!, m[zg]!, m[zo]!]
          const [t, dh] = [m[squashed + place]!, m[dH + place]!]
          const dc = fround(m[dState + place]! + fround(fround(dh * o) * fround(1 - fround(t * t))))
          m[zi] = fround(dc * g) * fround(i * fround(1 - i))
          m[zf] = fround(dc * m[before + place]!) * fround(f * fround(1 - f))
          m[zg] = fround(dc * i) * fround(1 - fround(g * g))
          m[zo] = fround(dh * t) * fround(o * fround(1 - o))
          m[dState + place] = dc * f
        }
      }
    },
    adam(n, w, g, m, v, average, clip, rate, first, second, decay, follow) {
      const f = memory()
      const [own, other] = [fround(0.1), fround(0.001)]
      ;[clip, rate, first, second, decay, follow] = [fround(clip), fround(rate), fround(first), fround(second), fround(decay), fround(follow)]
      const least = fround(1e-8)
      for (let i = 0; i < n; i++) {
        const gradient = fround(f[g + i]! * clip)
        const mean = fround(f[m + i]! + fround(fround(gradient - f[m + i]!) * own))
        const square = fround(f[v + i]! + fround(fround(fround(gradient * gradient) - f[v + i]!) * other))
        const by = fround(fround(mean * first) / fround(fround(sqrt(fround(square * second))) + least))
        const weight = fround(f[w + i]! - fround(fround(by + fround(f[w + i]! * decay)) * rate))
        f[average + i] = f[average + i]! + fround(fround(weight - f[average + i]!) * follow)
        f[m + i] = mean
        f[v + i] = square
        f[w + i] = weight
      }
    },
  }
}

/** Cephes' expf, within two units in the last place, its argument kept within ±87. */
function exp(argument: number): number {
  const x = min(max(argument, -87), 87)
  const n = floor(fround(fround(x * log2e) + 0.5))
  const r = fround(fround(x - fround(n * ln2High)) - fround(n * ln2Low))
  let p = fround(fround(p0 * r) + p1)
  p = fround(fround(p * r) + p2)
  p = fround(fround(p * r) + p3)
  p = fround(fround(p * r) + p4)
  p = fround(fround(p * r) + p5)
  p = fround(fround(fround(p * fround(r * r)) + r) + 1)
  return fround(p * powers[n + 127]!)
}

function sigmoid(x: number): number {
  return fround(1 / fround(1 + exp(fround(0 - x))))
}

function tanh(x: number): number {
  return fround(1 - fround(2 / fround(1 + exp(fround(x + x)))))
}
