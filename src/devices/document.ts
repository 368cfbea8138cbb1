import type { MetaDocument, MetaRow } from '../core/ports.ts'
import type { VersionedDevice } from '../core/services.ts'

/** A device in memory: what its document says, and how far memory is ahead of it. */
export interface DeviceState {
  /** Dense number within the process, in order of appearance. */
  readonly index: number
  readonly tenant: string
  readonly id: string
  name: string
  type: string
  status: string
  tenantId: string
  metadata: Readonly<Record<string, unknown>>
  attributes: Readonly<Record<string, string>>
  /** Those of them that the document has, as of when it was last read or written. */
  storedAttributes: Readonly<Record<string, string>>
  createdUs: number
  updatedUs: number
  auto: boolean
  /** Version of the stored document; 0 until there is one. */
  version: number
  /** Grows with each change that memory makes by itself, so that a write knows whether it wrote the last of them. */
  changes: number
}

/** Shared by all devices that have none: 200,000 empty objects would be 11 MB. */
export const nothing: Readonly<Record<string, never>> = Object.freeze({})

/** The device's document (docs/format/meta.md, "devices"). What is empty or follows from the id is left out. */
export function deviceDocument(state: DeviceState): MetaDocument {
  return {
    id: state.id,
    ...(state.name === state.id ? {} : { name: state.name }),
    ...(state.type === '' ? {} : { type: state.type }),
    status: state.status,
    ...(state.tenantId === state.tenant ? {} : { tenant_id: state.tenantId }),
    ...(state.metadata === nothing ? {} : { metadata: state.metadata }),
    ...(state.attributes === nothing ? {} : { attributes: state.attributes }),
    created_us: state.createdUs,
    updated_us: state.updatedUs,
    auto_registered: state.auto,
  }
}

/** Takes over what the document says; fields that it lacks, or that have another type, get what a new device has. */
export function takeDocument(state: DeviceState, row: MetaRow): void {
  const { doc } = row
  state.name = textOr(doc['name'], state.id)
  state.type = textOr(doc['type'], '')
  state.status = textOr(doc['status'], 'active')
  state.tenantId = textOr(doc['tenant_id'], state.tenant)
  state.metadata = objectOr(doc['metadata'])
  state.attributes = textMembers(doc['attributes'])
  state.storedAttributes = state.attributes
  state.createdUs = numberOr(doc['created_us'], 0)
  state.updatedUs = numberOr(doc['updated_us'], 0)
  state.auto = doc['auto_registered'] === true
  state.version = row.version
}

export function newDevice(index: number, tenant: string, id: string, atUs: number): DeviceState {
  return {
    index,
    tenant,
    id,
    name: id,
    type: '',
    status: 'active',
    tenantId: tenant,
    metadata: nothing,
    attributes: nothing,
    storedAttributes: nothing,
    createdUs: atUs,
    updatedUs: atUs,
    auto: true,
    version: 0,
    changes: 0,
  }
}

/** `lastSeenUs`: 0 when it has sent nothing yet. */
export function deviceView(state: DeviceState, lastSeenUs: number): VersionedDevice {
  return {
    id: state.id,
    name: state.name,
    type: state.type,
    status: state.status,
    tenant_id: state.tenantId,
    metadata: state.metadata,
    attributes: state.attributes,
    created_us: state.createdUs,
    updated_us: state.updatedUs,
    ...(lastSeenUs === 0 ? {} : { last_seen_us: lastSeenUs }),
    auto_registered: state.auto,
    version: state.version,
  }
}

function textOr(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : otherwise
}

function numberOr(value: unknown, otherwise: number): number {
  return typeof value === 'number' ? value : otherwise
}

function objectOr(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return nothing
  return Object.keys(value).length === 0 ? nothing : (value as Record<string, unknown>)
}

function textMembers(value: unknown): Readonly<Record<string, string>> {
  const members = Object.entries(objectOr(value)).filter((entry): entry is [string, string] => typeof entry[1] === 'string')
  // fromEntries makes own properties whatever the name, `__proto__` included.
  return members.length === 0 ? nothing : Object.fromEntries(members)
}
