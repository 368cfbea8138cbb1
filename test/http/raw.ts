import net from 'node:net'

/** A bare connection, for what fetch would never send. */
export class RawClient {
  readonly socket: net.Socket
  received = ''
  #closed = false
  #wake: (() => void) | undefined

  constructor(port: number) {
    this.socket = net.connect(port, '127.0.0.1')
    this.socket.setNoDelay(true)
    this.socket.on('data', (chunk: Buffer) => {
      this.received += chunk.toString('latin1')
      this.#wake?.()
    })
    this.socket.on('close', () => {
      this.#closed = true
      this.#wake?.()
    })
    this.socket.on('error', () => undefined)
  }

  send(bytes: string | Uint8Array): Promise<void> {
    return new Promise((resolve) => this.socket.write(bytes, () => resolve()))
  }

  /** Resolves once `wanted` has come, or the connection is closed. */
  async until(wanted: RegExp): Promise<string> {
    while (!wanted.test(this.received) && !this.#closed) await new Promise<void>((resolve) => (this.#wake = resolve))
    return this.received
  }

  async closed(): Promise<string> {
    while (!this.#closed) await new Promise<void>((resolve) => (this.#wake = resolve))
    return this.received
  }

  end(): void {
    this.socket.destroy()
  }
}
