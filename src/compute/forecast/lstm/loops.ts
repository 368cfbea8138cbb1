/** The inner loops. Places are indices into the memory, in floats; tools/kernels/lstm.as and plain.ts do the same operations in the same order. */
export interface Loops {
  /**
   * C[m × n] = A[m × k] B[k × n], or that added to C (`add` 1). A by strides of its rows and columns, so that it may be a transpose. n is a multiple
   * of 8. Each sum runs over k in ascending order.
   */
  multiply(
    m: number,
    n: number,
    k: number,
    a: number,
    aRow: number,
    aColumn: number,
    b: number,
    bRow: number,
    c: number,
    cRow: number,
    add: 0 | 1,
  ): void
  /** One step of `rows` cells: gates z before their functions become those after; makes state, its tanh (`squashed`) and h. Units: a multiple of 4. */
  forward(rows: number, units: number, z: number, before: number, state: number, squashed: number, h: number, hRow: number): void
  /** It backwards: gates z become gradients before their functions, dState that of the state before. */
  backward(rows: number, units: number, z: number, before: number, squashed: number, dH: number, dState: number): void
  /** A step of Adam (Kingma & Ba 2015; betas .9 and .999) with decoupled decay, and the weights' moving average. n is a multiple of 4. */
  adam(
    n: number,
    w: number,
    g: number,
    m: number,
    v: number,
    average: number,
    clip: number,
    rate: number,
    first: number,
    second: number,
    decay: number,
    follow: number,
  ): void
}
