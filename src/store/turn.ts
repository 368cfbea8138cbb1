/** One at a time, in order of asking: commits, and the moment at which a query fixes what it will see. */
export class Turn {
  #last: Promise<void> = Promise.resolve()

  async run<T>(task: () => Promise<T>): Promise<T> {
    const before = this.#last
    let done = (): void => undefined
    this.#last = new Promise((resolve) => (done = resolve))
    await before
    try {
      return await task()
    } finally {
      done()
    }
  }
}
