import { httpStatus, type Code } from '../../src/core/errors.ts'

/** Where a message can come in. `ingest` is S2's and S3's path: the body tells which of them is meant. */
export type Route = 'telemetry' | 'sensor-data' | 'ingest' | 'ingest-batch' | 'line' | 'mqtt'

export const routePaths: Readonly<Record<Route, string>> = {
  telemetry: 'POST /api/v1/telemetry',
  'sensor-data': 'POST /sensor-data',
  ingest: 'POST /ingest',
  'ingest-batch': 'POST /ingest/batch',
  line: 'POST /api/v2/write',
  mqtt: 'MQTT, a telemetry topic',
}

export interface StoredValue {
  readonly metric: string
  readonly value?: number
  readonly text?: string
  /** Epoch microseconds; absent: not looked at. */
  readonly timeUs?: number
}

export interface BadInput {
  readonly name: string
  readonly routes: readonly Route[]
  /** The body as the documentation shows it, when its bytes are not to be printed. */
  readonly shown?: string
  /** The body, for a device id that no other case uses. */
  readonly body: (device: string) => string | Uint8Array
  readonly headers?: Readonly<Record<string, string>>
  /** MQTT topic; absent: portfolio/telemetry. */
  readonly topic?: (device: string) => string
  /** The device that holds the rows, when it is not the id given to `body`. */
  readonly storedAs?: (device: string) => string
  /** Sent before by the same device, and taken. */
  readonly before?: (device: string) => readonly string[]
  /** By which part it is judged: `decoder` cases also run without a server. */
  readonly judge: 'decoder' | 'door'
  /** Answer of HTTP; on MQTT an acknowledged message is 202 as well, and refused ones have their code in the dead letter. */
  readonly status: number
  /** Absent: the message is taken. */
  readonly code?: Code
  /** Which field is named (RFC 6901). Absent: not looked at. */
  readonly pointer?: string
  /** Rows that are stored. */
  readonly stored: number
  readonly values?: readonly StoredValue[]
  /** New dead letters. */
  readonly deadLetters: number
  /** Of a batch: the items that were refused. */
  readonly results?: readonly { readonly index: number; readonly code: Code }[]
  readonly why: string
}

const own: readonly Route[] = ['telemetry', 'mqtt']

/** What differs from a refusal's usual course. */
export interface Refused {
  readonly topic?: (device: string) => string
  readonly storedAs?: (device: string) => string
  readonly deadLetters?: number
  readonly routes?: readonly Route[]
  readonly shown?: string
  readonly before?: (device: string) => readonly string[]
  readonly pointer?: string
  readonly status?: number
}

/** A case that is refused as a whole. */
export function refused(name: string, code: Code, body: BadInput['body'], why: string, o: Refused = {}): BadInput {
  return { name, routes: own, body, judge: 'decoder', status: httpStatus(code), code, stored: 0, deadLetters: 1, why, ...o }
}

/** A case that is taken, however it looks. */
export function taken(name: string, values: readonly StoredValue[], body: BadInput['body'], why: string, o: Omit<Refused, 'pointer'> = {}): BadInput {
  return { name, routes: own, body, judge: 'decoder', status: 202, stored: values.length, values, deadLetters: 0, why, ...o }
}

/** A JSON string. */
export const id = (text: string): string => JSON.stringify(text)
