import net from 'node:net'

/** A way to a server of loopback that a test can cut: bytes then go nowhere, as when a cable is pulled, until they flow again or connections are reset. */
export interface TcpProxy {
  readonly port: number
  /** Bytes of both directions wait; new connections are taken and nothing comes of them. */
  cut(): void
  /** What waits goes on, and what is new. */
  mend(): void
  /** Every connection ends with RST. */
  reset(): void
  close(): Promise<void>
}

/** `target` is asked for each connection: a server may come back elsewhere. */
export async function tcpProxy(target: () => number): Promise<TcpProxy> {
  const sockets = new Set<net.Socket>()
  let through = true
  const keep = (socket: net.Socket): void => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
    if (!through) socket.pause()
  }
  const server = net.createServer((inner) => {
    const outer = net.connect(target(), '127.0.0.1')
    keep(inner)
    keep(outer)
    for (const [from, to] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      from.on('data', (bytes) => void to.write(bytes))
      from.on('close', () => to.destroy())
      if (!through) from.pause()
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a listening socket without a port')
  return {
    port: address.port,
    cut() {
      through = false
      for (const socket of sockets) socket.pause()
    },
    mend() {
      through = true
      for (const socket of sockets) socket.resume()
    },
    reset() {
      for (const socket of sockets) socket.resetAndDestroy()
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
