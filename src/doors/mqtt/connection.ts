/** The certificate of a client, verified. Who may do what with it is the authorizer's to say. */
export interface ClientCertificate {
  /** Distinguished name as OpenSSL writes it, its parts separated by line feeds: `O=Example\nCN=sensor-7`. */
  readonly subject: string
  /** Names of the extension, as `DNS:sensor-7.example.com, URI:urn:dev:7`; absent: it has none. */
  readonly altNames: string | undefined
  readonly serialNumber: string
  /** SHA-256, in hexadecimal with colons. */
  readonly fingerprint: string
}

/** What carries a connection; `ws` and `wss` by way of the HTTP door. */
export type Transport = 'tcp' | 'tls' | 'ws' | 'wss'

/** The peer's end as a session sees it: a socket, or a line of the simulated network. */
export interface Connection {
  readonly remoteAddress: string
  readonly transport: Transport
  /** Since the connection was made, of TCP's payload. */
  readonly bytesRead: number
  readonly bytesWritten: number
  /** What the client has shown in the handshake and the authorities vouch for. */
  readonly certificate?: ClientCertificate | undefined
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
