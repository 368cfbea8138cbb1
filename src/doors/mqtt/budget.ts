/** Bytes that many connections hold together, against one bound. */
export class Budget {
  readonly max: number
  used = 0
  constructor(max: number) {
    this.max = max
  }
  get exceeded(): boolean {
    return this.used > this.max
  }
}
