// The inner loops of an LSTM in 128-bit vectors (src/compute/forecast/lstm). AssemblyScript: tools/kernels/build.js compiles it into
// kernels.generated.ts. Every place is an index into the memory as 32-bit floats.
//
// No sum is ever split over lanes, and nothing is fused: each number of a result comes from the same single-precision operations in the same order
// as in plain.ts, so that both give the same bits. Who changes one changes the other.

// @ts-ignore: decorator
@inline
function at(index: i32): usize {
  return (<usize>index) << 2
}

// @ts-ignore: decorator
@inline
function splat(value: f32): v128 {
  return f32x4.splat(value)
}

// @ts-ignore: decorator
@inline
function plus(sum: v128, x: v128, y: v128): v128 {
  return f32x4.add(sum, f32x4.mul(x, y))
}

/** C[m × n] = A[m × k] B[k × n], or that added to C. A by strides of its rows and columns, so that it may be a transpose. n is a multiple of 8. */
export function multiply(m: i32, n: i32, k: i32, a: i32, aRow: i32, aColumn: i32, b: i32, bRow: i32, c: i32, cRow: i32, add: i32): void {
  const stepA = at(aColumn)
  const stepB = at(bRow)
  let i = 0
  for (; i + 4 <= m; i += 4) {
    for (let j = 0; j < n; j += 8) four(k, at(a + i * aRow), at(aRow), stepA, at(b + j), stepB, at(c + i * cRow + j), at(cRow), add)
  }
  for (; i < m; i++) {
    let j = 0
    for (; j + 32 <= n; j += 32) wide(k, at(a + i * aRow), stepA, at(b + j), stepB, at(c + i * cRow + j), add)
    for (; j < n; j += 8) narrow(k, at(a + i * aRow), stepA, at(b + j), stepB, at(c + i * cRow + j), add)
  }
}

/** Four rows, eight columns: as many sums as there are registers for. */
// @ts-ignore: decorator
@inline
function four(k: i32, a: usize, aRow: usize, stepA: usize, b: usize, stepB: usize, c: usize, cRow: usize, add: i32): void {
  const zero = splat(0)
  const c1 = c + cRow
  const c2 = c1 + cRow
  const c3 = c2 + cRow
  let s00 = zero, s01 = zero, s10 = zero, s11 = zero, s20 = zero, s21 = zero, s30 = zero, s31 = zero
  if (add) {
    s00 = v128.load(c), s01 = v128.load(c, 16)
    s10 = v128.load(c1), s11 = v128.load(c1, 16)
    s20 = v128.load(c2), s21 = v128.load(c2, 16)
    s30 = v128.load(c3), s31 = v128.load(c3, 16)
  }
  const row2 = aRow << 1
  const row3 = row2 + aRow
  for (let left = k; left > 0; left--) {
    const b0 = v128.load(b)
    const b1 = v128.load(b, 16)
    const a0 = v128.load32_splat(a)
    const a1 = v128.load32_splat(a + aRow)
    const a2 = v128.load32_splat(a + row2)
    const a3 = v128.load32_splat(a + row3)
    s00 = plus(s00, a0, b0), s01 = plus(s01, a0, b1)
    s10 = plus(s10, a1, b0), s11 = plus(s11, a1, b1)
    s20 = plus(s20, a2, b0), s21 = plus(s21, a2, b1)
    s30 = plus(s30, a3, b0), s31 = plus(s31, a3, b1)
    a += stepA
    b += stepB
  }
  v128.store(c, s00), v128.store(c, s01, 16)
  v128.store(c1, s10), v128.store(c1, s11, 16)
  v128.store(c2, s20), v128.store(c2, s21, 16)
  v128.store(c3, s30), v128.store(c3, s31, 16)
}

/** One row, 32 columns: a single forecast. */
// @ts-ignore: decorator
@inline
function wide(k: i32, a: usize, stepA: usize, b: usize, stepB: usize, c: usize, add: i32): void {
  const zero = splat(0)
  let s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero, s7 = zero
  if (add) {
    s0 = v128.load(c), s1 = v128.load(c, 16), s2 = v128.load(c, 32), s3 = v128.load(c, 48)
    s4 = v128.load(c, 64), s5 = v128.load(c, 80), s6 = v128.load(c, 96), s7 = v128.load(c, 112)
  }
  for (let left = k; left > 0; left--) {
    const x = v128.load32_splat(a)
    s0 = plus(s0, x, v128.load(b)), s1 = plus(s1, x, v128.load(b, 16)), s2 = plus(s2, x, v128.load(b, 32)), s3 = plus(s3, x, v128.load(b, 48))
    s4 = plus(s4, x, v128.load(b, 64)), s5 = plus(s5, x, v128.load(b, 80)), s6 = plus(s6, x, v128.load(b, 96)), s7 = plus(s7, x, v128.load(b, 112))
    a += stepA
    b += stepB
  }
  v128.store(c, s0), v128.store(c, s1, 16), v128.store(c, s2, 32), v128.store(c, s3, 48)
  v128.store(c, s4, 64), v128.store(c, s5, 80), v128.store(c, s6, 96), v128.store(c, s7, 112)
}

/** One row, eight columns. */
// @ts-ignore: decorator
@inline
function narrow(k: i32, a: usize, stepA: usize, b: usize, stepB: usize, c: usize, add: i32): void {
  let s0 = add ? v128.load(c) : splat(0)
  let s1 = add ? v128.load(c, 16) : splat(0)
  for (let left = k; left > 0; left--) {
    const x = v128.load32_splat(a)
    s0 = plus(s0, x, v128.load(b)), s1 = plus(s1, x, v128.load(b, 16))
    a += stepA
    b += stepB
  }
  v128.store(c, s0), v128.store(c, s1, 16)
}

/** Cephes' expf, within two units in the last place, its argument kept within ±87. */
// @ts-ignore: decorator
@inline
function exp(x: v128): v128 {
  x = f32x4.min(f32x4.max(x, splat(-87)), splat(87))
  const n = f32x4.floor(f32x4.add(f32x4.mul(x, splat(1.4426950408889634)), splat(0.5)))
  const r = f32x4.sub(f32x4.sub(x, f32x4.mul(n, splat(0.693359375))), f32x4.mul(n, splat(-2.12194440e-4)))
  let p = splat(1.9875691500e-4)
  p = f32x4.add(f32x4.mul(p, r), splat(1.3981999507e-3))
  p = f32x4.add(f32x4.mul(p, r), splat(8.3334519073e-3))
  p = f32x4.add(f32x4.mul(p, r), splat(4.1665795894e-2))
  p = f32x4.add(f32x4.mul(p, r), splat(1.6666665459e-1))
  p = f32x4.add(f32x4.mul(p, r), splat(5.0000001201e-1))
  p = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), splat(1))
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23)
  return f32x4.mul(p, power)
}

/** 1 / (1 + e^-x). */
// @ts-ignore: decorator
@inline
function sigmoid(x: v128): v128 {
  return f32x4.div(splat(1), f32x4.add(splat(1), exp(f32x4.sub(splat(0), x))))
}

/** 1 - 2 / (1 + e^2x). */
// @ts-ignore: decorator
@inline
function tanh(x: v128): v128 {
  return f32x4.sub(splat(1), f32x4.div(splat(2), f32x4.add(splat(1), exp(f32x4.add(x, x)))))
}

/**
 * One step of `rows` cells. z [rows × 4 units]: input, forget, cell and output gates, before their functions and after. From the state before it makes
 * the state, its tanh, and what the cells give out, whose rows lie `hRow` apart. Units are a multiple of 4.
 */
export function forward(rows: i32, units: i32, z: i32, before: i32, state: i32, squashed: i32, h: i32, hRow: i32): void {
  const gate = at(units)
  for (let b = 0; b < rows; b++) {
    for (let u = 0; u < units; u += 4) {
      const place = b * units + u
      const zi = at(z + 4 * b * units + u)
      const zf = zi + gate
      const zg = zf + gate
      const zo = zg + gate
      const i = sigmoid(v128.load(zi))
      const f = sigmoid(v128.load(zf))
      const g = tanh(v128.load(zg))
      const o = sigmoid(v128.load(zo))
      const c = f32x4.add(f32x4.mul(f, v128.load(at(before + place))), f32x4.mul(i, g))
      const t = tanh(c)
      v128.store(zi, i)
      v128.store(zf, f)
      v128.store(zg, g)
      v128.store(zo, o)
      v128.store(at(state + place), c)
      v128.store(at(squashed + place), t)
      v128.store(at(h + b * hRow + u), f32x4.mul(o, t))
    }
  }
}

/** The same step backwards: z, the gates, becomes the gradient before their functions; dState of the state becomes that of the state before. */
export function backward(rows: i32, units: i32, z: i32, before: i32, squashed: i32, dH: i32, dState: i32): void {
  const one = splat(1)
  const gate = at(units)
  for (let b = 0; b < rows; b++) {
    for (let u = 0; u < units; u += 4) {
      const place = b * units + u
      const zi = at(z + 4 * b * units + u)
      const zf = zi + gate
      const zg = zf + gate
      const zo = zg + gate
      const i = v128.load(zi)
      const f = v128.load(zf)
      const g = v128.load(zg)
      const o = v128.load(zo)
      const t = v128.load(at(squashed + place))
      const dh = v128.load(at(dH + place))
      const dc = f32x4.add(v128.load(at(dState + place)), f32x4.mul(f32x4.mul(dh, o), f32x4.sub(one, f32x4.mul(t, t))))
      v128.store(zi, f32x4.mul(f32x4.mul(dc, g), f32x4.mul(i, f32x4.sub(one, i))))
      v128.store(zf, f32x4.mul(f32x4.mul(dc, v128.load(at(before + place))), f32x4.mul(f, f32x4.sub(one, f))))
      v128.store(zg, f32x4.mul(f32x4.mul(dc, i), f32x4.sub(one, f32x4.mul(g, g))))
      v128.store(zo, f32x4.mul(f32x4.mul(dh, t), f32x4.mul(o, f32x4.sub(one, o))))
      v128.store(at(dState + place), f32x4.mul(dc, f))
    }
  }
}

/**
 * A step of Adam on n weights (a multiple of 4): gradients times `clip`, moments m and v with what corrects their beginning, weights held back by
 * `decay`, and their moving average.
 */
export function adam(
  n: i32, w: i32, g: i32, m: i32, v: i32, average: i32, clip: f32, rate: f32, first: f32, second: f32, decay: f32, follow: f32,
): void {
  for (let i = 0; i < n; i += 4) {
    const gradient = f32x4.mul(v128.load(at(g + i)), splat(clip))
    let mean = v128.load(at(m + i))
    let square = v128.load(at(v + i))
    let weight = v128.load(at(w + i))
    let moving = v128.load(at(average + i))
    mean = f32x4.add(mean, f32x4.mul(f32x4.sub(gradient, mean), splat(0.1)))
    square = f32x4.add(square, f32x4.mul(f32x4.sub(f32x4.mul(gradient, gradient), square), splat(0.001)))
    const by = f32x4.div(f32x4.mul(mean, splat(first)), f32x4.add(f32x4.sqrt(f32x4.mul(square, splat(second))), splat(1e-8)))
    weight = f32x4.sub(weight, f32x4.mul(f32x4.add(by, f32x4.mul(weight, splat(decay))), splat(rate)))
    moving = f32x4.add(moving, f32x4.mul(f32x4.sub(weight, moving), splat(follow)))
    v128.store(at(m + i), mean)
    v128.store(at(v + i), square)
    v128.store(at(w + i), weight)
    v128.store(at(average + i), moving)
  }
}
