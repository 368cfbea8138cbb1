/** The kind alone decides what happens (docs/ARCHITECTURE.md, "Errors"); code and text inform. */
export type Kind = 'invalid' | 'denied' | 'missing' | 'conflict' | 'overloaded' | 'unavailable' | 'corrupt' | 'usage' | 'bug'

interface Entry {
  readonly kind: Kind
  /** HTTP status where the kind's own (see `httpStatus`) is too coarse. */
  readonly status?: number
  /** KYMO-Ennn, printed by the CLI. */
  readonly id: string
  readonly text: string
}

/** Every error that a user can meet. `text` says what is wrong and, where it can, how to mend it. */
export const errorTable = {
  // E1xx start-up and environment
  node_too_old: {
    kind: 'usage',
    id: 'KYMO-E101',
    text: 'Kymo needs Node 24 or newer. Start it through npm (npm start, npm run kymo), which brings Node 24 along.',
  },
  usage: { kind: 'usage', id: 'KYMO-E102', text: 'The command line is not understood.' },
  config_invalid: { kind: 'usage', id: 'KYMO-E103', text: 'A configuration value is not valid.' },
  port_in_use: { kind: 'conflict', id: 'KYMO-E104', text: 'The port is in use. Choose another, or 0 for any free one.' },
  open_beyond_loopback: {
    kind: 'denied',
    id: 'KYMO-E105',
    text: 'Bound beyond loopback without credentials. Create a token (kymo tokens create), or set KYMO_AUTH=open when the network protects it.',
  },
  tokens_missing: {
    kind: 'denied',
    id: 'KYMO-E109',
    text: 'Everyone is asked for a token, on loopback too, and there is none. Create one before the start: kymo tokens create.',
  },
  already_open: { kind: 'conflict', id: 'KYMO-E106', text: 'The data directory is in use by another process.' },
  server_unreachable: {
    kind: 'unavailable',
    id: 'KYMO-E107',
    text: 'No Kymo server answers there. Start one with kymo start, or name it with --url.',
  },
  assertion_failed: { kind: 'usage', id: 'KYMO-E108', text: 'An assertion of this run did not hold.' },
  tls_file_unreadable: { kind: 'usage', id: 'KYMO-E110', text: 'A certificate or key file cannot be read.' },
  tls_not_pem: { kind: 'usage', id: 'KYMO-E111', text: 'A certificate or key file does not hold what it should, in PEM.' },
  tls_key_mismatch: { kind: 'usage', id: 'KYMO-E112', text: 'The private key does not belong to the certificate.' },
  tls_expired: { kind: 'usage', id: 'KYMO-E113', text: 'The certificate has expired.' },
  // E2xx log, store, meta
  log_corrupt: {
    kind: 'corrupt',
    id: 'KYMO-E201',
    text: 'The log is damaged in the middle. Nothing was removed: kymo log verify shows where, kymo log repair sets the damaged part aside.',
  },
  log_format: { kind: 'corrupt', id: 'KYMO-E202', text: 'The log was written in a format that this version does not know.' },
  fsync_failed: {
    kind: 'corrupt',
    id: 'KYMO-E203',
    text: 'The disk refused to make data durable. Kymo stops rather than acknowledge what may be lost.',
  },
  disk_full: {
    kind: 'unavailable',
    id: 'KYMO-E204',
    text: 'The disk is full. Readings are not acknowledged until there is space again; reads go on.',
  },
  log_quota: {
    kind: 'unavailable',
    id: 'KYMO-E205',
    text: 'The log is at its quota because a consumer is behind. Nothing is deleted; acknowledgements wait.',
  },
  store_unavailable: { kind: 'unavailable', id: 'KYMO-E206', text: 'The store does not answer at the moment.' },
  store_format: { kind: 'corrupt', id: 'KYMO-E207', text: 'The store was written by a newer version of Kymo.' },
  span_conflict: { kind: 'conflict', id: 'KYMO-E208', text: 'Another owner has committed beyond this span.' },
  query_deadline: {
    kind: 'unavailable',
    status: 503,
    id: 'KYMO-E209',
    text: 'The query took longer than its deadline. Ask for less time, fewer series or a larger step.',
  },
  query_too_large: { kind: 'invalid', status: 422, id: 'KYMO-E210', text: 'The query would return more than its limit.' },
  shutting_down: { kind: 'unavailable', id: 'KYMO-E211', text: 'The server is shutting down.' },
  log_unavailable: { kind: 'unavailable', id: 'KYMO-E212', text: 'The log does not take writes at the moment.' },
  log_denied: {
    kind: 'unavailable',
    id: 'KYMO-E218',
    text: 'Kafka refuses our credentials, or does not give them the rights that are needed. It is tried again until it does.',
  },
  meta_corrupt: { kind: 'corrupt', id: 'KYMO-E220', text: 'The metadata file is damaged, or is not a metadata file of Kymo.' },
  store_corrupt: { kind: 'corrupt', id: 'KYMO-E221', text: 'A file of the store is missing or damaged.' },
  forecasts_corrupt: {
    kind: 'corrupt',
    id: 'KYMO-E223',
    text: 'The file of predictions and models is damaged, or is not one of Kymo.',
  },
  storage_quota: {
    kind: 'unavailable',
    id: 'KYMO-E222',
    text: 'Log and store have reached storage.quota_mb. Readings are not acknowledged until there is room again; reads go on.',
  },
  record_too_large: { kind: 'invalid', status: 413, id: 'KYMO-E213', text: 'A record is larger than the log takes.' },
  store_failed: {
    kind: 'corrupt',
    id: 'KYMO-E219',
    text: 'The store met an error after which its file must be opened anew. Nothing acknowledged is lost: the server restarts.',
  },
  backup_damaged: {
    kind: 'corrupt',
    id: 'KYMO-E215',
    text: 'A file of the backup is missing or damaged. kymo backup verify names all of them.',
  },
  backup_format: { kind: 'corrupt', id: 'KYMO-E216', text: 'The backup was made by a newer version of Kymo.' },
  restore_refused: { kind: 'conflict', id: 'KYMO-E217', text: 'The backup cannot be restored there, or to that moment.' },
  data_dir_unusable: { kind: 'usage', id: 'KYMO-E214', text: 'The data directory cannot be made or written.' },
  model_corrupt: { kind: 'corrupt', id: 'KYMO-E230', text: 'The file of a forecasting model is damaged. Train the model again.' },
  model_format: {
    kind: 'corrupt',
    id: 'KYMO-E231',
    text: 'The file is no forecasting model of Kymo, or is in a format that this version does not know.',
  },
  // E3xx what devices and clients send
  body_not_json: { kind: 'invalid', status: 400, id: 'KYMO-E301', text: 'The body is not valid JSON.' },
  body_not_utf8: { kind: 'invalid', status: 400, id: 'KYMO-E302', text: 'The body is not valid UTF-8.' },
  body_too_large: { kind: 'invalid', status: 413, id: 'KYMO-E303', text: 'The body is larger than the limit.' },
  body_encoding: { kind: 'invalid', status: 400, id: 'KYMO-E304', text: 'The content encoding could not be undone.' },
  media_type: { kind: 'invalid', status: 415, id: 'KYMO-E305', text: 'The content type is not supported here.' },
  too_deep: { kind: 'invalid', status: 422, id: 'KYMO-E306', text: 'The document is nested deeper than the limit.' },
  too_many_fields: { kind: 'invalid', status: 422, id: 'KYMO-E307', text: 'The message has more values than the limit.' },
  duplicate_key: { kind: 'invalid', status: 422, id: 'KYMO-E308', text: 'The same key stands twice in one object.' },
  device_missing: {
    kind: 'invalid',
    status: 422,
    id: 'KYMO-E309',
    text: 'No device id: give device, device_id or sensor_id, or a topic that carries it.',
  },
  device_invalid: {
    kind: 'invalid',
    status: 422,
    id: 'KYMO-E310',
    text: 'The device id must be 1 to 256 bytes of UTF-8 without control characters.',
  },
  metric_invalid: {
    kind: 'invalid',
    status: 422,
    id: 'KYMO-E311',
    text: 'A metric name must be 1 to 256 bytes of UTF-8 without control characters.',
  },
  value_invalid: { kind: 'invalid', status: 422, id: 'KYMO-E312', text: 'The value has a type that cannot be stored.' },
  value_not_finite: { kind: 'invalid', status: 422, id: 'KYMO-E313', text: 'The number is beyond what a double can hold.' },
  values_missing: { kind: 'invalid', status: 422, id: 'KYMO-E314', text: 'The message carries no value.' },
  time_invalid: {
    kind: 'invalid',
    status: 422,
    id: 'KYMO-E315',
    text: 'The time is not RFC 3339 nor an epoch number, or lies outside 1970 to 2255.',
  },
  alias_conflict: { kind: 'invalid', status: 422, id: 'KYMO-E316', text: 'Two names of the same metric carry different values.' },
  too_many_metrics: {
    kind: 'invalid',
    status: 422,
    id: 'KYMO-E317',
    text: 'The device has reached its limit of metrics. Ids used as JSON keys are the usual cause.',
  },
  too_many_devices: { kind: 'invalid', status: 422, id: 'KYMO-E318', text: 'The limit of devices is reached.' },
  registration_rate: { kind: 'overloaded', id: 'KYMO-E319', text: 'New devices arrive faster than the limit; try again.' },
  device_unknown: { kind: 'invalid', status: 422, id: 'KYMO-E320', text: 'The device is not registered, and automatic registration is off.' },
  request_invalid: { kind: 'invalid', status: 400, id: 'KYMO-E321', text: 'The request is not valid.' },
  field_missing: { kind: 'invalid', status: 422, id: 'KYMO-E322', text: 'A required field is missing.' },
  empty_body: { kind: 'invalid', status: 400, id: 'KYMO-E323', text: 'The body is empty.' },
  topic_invalid: { kind: 'invalid', status: 422, id: 'KYMO-E324', text: 'The topic does not fit the configured template.' },
  metric_text_changed: { kind: 'invalid', status: 422, id: 'KYMO-E325', text: 'The metric has held numbers so far and this value is not one.' },
  idempotency_conflict: { kind: 'conflict', status: 409, id: 'KYMO-E326', text: 'The Idempotency-Key was used with a different body.' },
  shape_unknown: { kind: 'invalid', status: 400, id: 'KYMO-E327', text: 'The body fits none of the shapes of this route.' },
  batch_too_long: { kind: 'invalid', status: 413, id: 'KYMO-E328', text: 'The batch has more items than the limit.' },
  too_many_attributes: { kind: 'invalid', status: 422, id: 'KYMO-E329', text: 'The device has reached its limit of attributes.' },
  too_old: {
    kind: 'invalid',
    status: 422,
    id: 'KYMO-E332',
    text: 'The reading is older than readings are kept (retention.raw, retention.store_mb).',
  },
  line_invalid: { kind: 'invalid', status: 400, id: 'KYMO-E333', text: 'The line is not valid line protocol.' },
  sql_invalid: { kind: 'invalid', status: 400, id: 'KYMO-E330', text: 'The SQL statement is not valid.' },
  sql_refused: {
    kind: 'invalid',
    status: 422,
    id: 'KYMO-E331',
    text: 'The SQL statement uses something that is not allowed here: one SELECT over the documented views is.',
  },
  // E4xx access and things asked for
  unauthenticated: { kind: 'denied', status: 401, id: 'KYMO-E401', text: 'Credentials are missing or not valid.' },
  forbidden: { kind: 'denied', status: 403, id: 'KYMO-E402', text: 'These credentials do not allow that.' },
  host_denied: {
    kind: 'denied',
    status: 403,
    id: 'KYMO-E403',
    text: 'The Host or Origin header names another site. Call the server by the address that it printed.',
  },
  not_found: { kind: 'missing', id: 'KYMO-E404', text: 'There is no such thing here.' },
  device_not_found: { kind: 'missing', id: 'KYMO-E405', text: 'Device not found' },
  already_exists: { kind: 'conflict', status: 409, id: 'KYMO-E406', text: 'It exists already.' },
  version_conflict: { kind: 'conflict', status: 412, id: 'KYMO-E407', text: 'It was changed by somebody else in the meantime.' },
  rate_limited: { kind: 'overloaded', id: 'KYMO-E408', text: 'Too many requests; try again later.' },
  overloaded: { kind: 'overloaded', id: 'KYMO-E409', text: 'The server takes no more at the moment; try again.' },
  method_not_allowed: { kind: 'invalid', status: 405, id: 'KYMO-E410', text: 'This route does not take that method.' },
  precondition_required: {
    kind: 'conflict',
    status: 428,
    id: 'KYMO-E411',
    text: 'Say which version is to be changed: send If-Match with the ETag of a GET, or If-Match: *.',
  },
  request_timeout: { kind: 'invalid', status: 408, id: 'KYMO-E412', text: 'The request took too long to arrive.' },
  headers_too_large: { kind: 'invalid', status: 431, id: 'KYMO-E413', text: 'The header fields of the request are larger than the limit.' },
  https_required: { kind: 'invalid', status: 400, id: 'KYMO-E414', text: 'This port speaks HTTPS. Call it by https://.' },
  session_taken: { kind: 'conflict', status: 409, id: 'KYMO-E415', text: 'Another connection has this session, or it has ended.' },
  too_many_sessions: {
    kind: 'overloaded',
    id: 'KYMO-E416',
    text: 'The tenant has as many MQTT sessions as there may be. Connect with a Session Expiry Interval of 0, or end sessions that nobody needs.',
  },
  not_offered: { kind: 'invalid', status: 501, id: 'KYMO-E417', text: 'The engines of this deployment do not offer that.' },
  other_role: {
    kind: 'invalid',
    status: 421,
    id: 'KYMO-E418',
    text: 'This process does not have the role for that. Ask one that has: roles says which.',
  },
  dead_letter_truncated: {
    kind: 'invalid',
    status: 422,
    id: 'KYMO-E420',
    text: 'Only the first bytes of this dead letter were kept, so it cannot be replayed.',
  },
  dead_letter_settled: { kind: 'conflict', status: 409, id: 'KYMO-E421', text: 'This dead letter was replayed or dismissed already.' },
  job_file_gone: {
    kind: 'missing',
    status: 410,
    id: 'KYMO-E422',
    text: 'The file of this job is not there any more: backups do not hold files of jobs.',
  },
  series_not_found: { kind: 'missing', id: 'KYMO-E423', text: 'No readings of this device and metric are stored.' },
  model_not_found: { kind: 'missing', id: 'KYMO-E424', text: 'There is no such version of a model of this series.' },
  too_little_data: {
    kind: 'conflict',
    status: 409,
    id: 'KYMO-E425',
    text: 'There is too little data yet: "missing" says how many steps more are needed.',
  },
  // E9xx
  bug: { kind: 'bug', id: 'KYMO-E901', text: 'Something failed that should not. Please report it with the request id.' },
} as const satisfies Record<string, Entry>

export type Code = keyof typeof errorTable

const statusOfKind: Record<Kind, number> = {
  invalid: 422,
  denied: 403,
  missing: 404,
  conflict: 409,
  overloaded: 429,
  unavailable: 503,
  corrupt: 500,
  usage: 400,
  bug: 500,
}

/** One thing that is wrong with a request or message. `pointer` is an RFC 6901 JSON pointer into the body. */
export interface FieldError {
  readonly pointer: string
  readonly detail: string
}

export interface ErrorDetails {
  /** More than the table's text: the facts of this case, in a sentence. */
  readonly detail?: string
  readonly errors?: readonly FieldError[]
  /** For `overloaded` and `unavailable`: when to try again. */
  readonly retryAfterS?: number
  readonly facts?: Readonly<Record<string, string | number | boolean>>
  readonly cause?: unknown
}

export class KymoError extends Error {
  readonly code: Code
  readonly details: ErrorDetails
  constructor(code: Code, details: ErrorDetails = {}) {
    // Where in the program a sender's mistake was noticed helps nobody, and a hostile sender makes many: taking the stack is most of what one costs.
    const frames = Error.stackTraceLimit
    if (errorTable[code].kind === 'invalid') Error.stackTraceLimit = 0
    super(details.detail ?? errorTable[code].text, details.cause === undefined ? undefined : { cause: details.cause })
    Error.stackTraceLimit = frames
    this.name = 'KymoError'
    this.code = code
    this.details = details
  }
  get kind(): Kind {
    return errorTable[this.code].kind
  }
  get id(): string {
    return errorTable[this.code].id
  }
}

export function httpStatus(code: Code): number {
  const entry: Entry = errorTable[code]
  return entry.status ?? statusOfKind[entry.kind]
}

/** What is not a KymoError is a bug of ours: the kind that restarts a role and never blames the input. */
export function asKymoError(thrown: unknown): KymoError {
  if (thrown instanceof KymoError) return thrown
  return new KymoError('bug', { detail: thrown instanceof Error ? thrown.message : String(thrown), cause: thrown })
}

/** Errors cross threads as plain data. */
export interface PlainError {
  readonly code: Code
  readonly message: string
  readonly errors?: readonly FieldError[]
  readonly facts?: Readonly<Record<string, string | number | boolean>>
}

export function toPlainError(thrown: unknown): PlainError {
  const error = asKymoError(thrown)
  return {
    code: error.code,
    message: error.message,
    ...(error.details.errors ? { errors: error.details.errors } : {}),
    ...(error.details.facts ? { facts: error.details.facts } : {}),
  }
}

export function fromPlainError(plain: PlainError): KymoError {
  return new KymoError(plain.code, {
    detail: plain.message,
    ...(plain.errors ? { errors: plain.errors } : {}),
    ...(plain.facts ? { facts: plain.facts } : {}),
  })
}
