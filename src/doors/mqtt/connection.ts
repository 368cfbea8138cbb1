/** The peer's end as a session sees it: a socket, or a line of the simulated network. */
export interface Connection {
  readonly remoteAddress: string
  /** Bytes that `write` took and the network has not; `MqttSession.drained` is called when it is 0 again. */
  readonly bufferedBytes: number
  /** Takes all of it, in order; `bytes` belongs to the connection from now on and is never changed again. */
  write(bytes: Uint8Array): void
  /** No more `MqttSession.receive` until `resume`, except for what was read already. */
  pause(): void
  resume(): void
  /**
   * Sends what was written, then closes, after a bounded time even when the peer does not read. Calls nothing back:
   * the session has ended itself.
   */
  close(): void
}
