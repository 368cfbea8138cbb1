/** What a client sends, written from the standard and not from our codec. */
export function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
}

export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text.split(' ').map((byte) => Number.parseInt(byte, 16)))
}

export function packet(first: number, ...body: readonly (Uint8Array | number[])[]): Uint8Array {
  const content = Buffer.concat(body.map((part) => Uint8Array.from(part)))
  const length: number[] = []
  let rest = content.length
  do {
    const digit = rest % 128
    rest = Math.floor(rest / 128)
    length.push(rest > 0 ? digit + 128 : digit)
  } while (rest > 0)
  return Buffer.concat([Uint8Array.from([first, ...length]), content])
}

export function field(content: string | Uint8Array): Uint8Array {
  const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content
  return Buffer.concat([Uint8Array.of(Math.floor(bytes.length / 256), bytes.length % 256), bytes])
}

export interface ConnectOptions {
  readonly clientId?: string
  readonly clean?: boolean
  readonly keepAlive?: number
  readonly will?: { readonly topic: string; readonly payload: string; readonly qos?: number; readonly retain?: boolean }
  readonly username?: string
  readonly password?: string
  readonly level?: number
  readonly name?: string
  readonly flags?: number
}

export function connect(o: ConnectOptions = {}): Uint8Array {
  const { clientId = 'client', clean = true, keepAlive = 0, will, username, password, level = 4, name = 'MQTT' } = o
  let flags = clean ? 0x02 : 0
  if (will !== undefined) flags += 0x04 + (will.qos ?? 0) * 8 + (will.retain === true ? 0x20 : 0)
  if (password !== undefined) flags += 0x40
  if (username !== undefined) flags += 0x80
  return packet(
    0x10,
    field(name),
    [level, o.flags ?? flags, keepAlive >> 8, keepAlive & 255],
    field(clientId),
    ...(will === undefined ? [] : [field(will.topic), field(will.payload)]),
    ...(username === undefined ? [] : [field(username)]),
    ...(password === undefined ? [] : [field(password)]),
  )
}

export function publish(
  topic: string | Uint8Array,
  payload: string | Uint8Array,
  o: { qos?: number; id?: number; dup?: boolean; retain?: boolean } = {},
): Uint8Array {
  const { qos = 0, id = 1, dup = false, retain = false } = o
  const first = 0x30 + (dup ? 8 : 0) + qos * 2 + (retain ? 1 : 0)
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload
  return packet(first, field(topic), qos > 0 ? [id >> 8, id & 255] : [], bytes)
}

export function subscribe(id: number, ...filters: readonly (readonly [string, number])[]): Uint8Array {
  return packet(0x82, [id >> 8, id & 255], ...filters.flatMap(([filter, qos]) => [field(filter), [qos]]))
}

export function unsubscribe(id: number, ...filters: readonly string[]): Uint8Array {
  return packet(0xa2, [id >> 8, id & 255], ...filters.map((filter) => field(filter)))
}

export function ack(first: number, id: number): Uint8Array {
  return Uint8Array.of(first, 2, id >> 8, id & 255)
}

export const pingreq = Uint8Array.of(0xc0, 0)
export const disconnect = Uint8Array.of(0xe0, 0)

export function puback(id: number): string {
  return hex(ack(0x40, id))
}
