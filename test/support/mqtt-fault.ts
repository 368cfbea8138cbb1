/**
 * Loaded into the server's process (`--import`) by e2e/mqtt-exactly-once.test.ts: ends it with SIGKILL where $FAULT_FILE says, at the next QoS 2 publish of
 * telemetry that comes there. Where a publish is on its way is told by the classes that it passes (src/doors/mqtt/inbound.ts), from outside: the product
 * has no such points.
 */
import fs from 'node:fs'
import process from 'node:process'
import { isMainThread } from 'node:worker_threads'
import { HeldArrivals } from '../../src/doors/mqtt/arrival.ts'
import type { Arrival } from '../../src/doors/mqtt/arrival.ts'
import { Delivery } from '../../src/doors/mqtt/delivery.ts'
import { Receipts } from '../../src/doors/mqtt/receipts.ts'

/** In the order of a publish. */
export const faultPoints = [
  /** The gate has taken the reading; it is not on the disk. */
  'taken',
  /** The reading is on the disk, and nobody has had the message. */
  'on_disk',
  /** It was handed to subscribers; the session store knows nothing of it. */
  'delivered',
  /** The session store has it, with the packet id; not on the disk. */
  'stored',
  /** All is on the disk; PUBREC is not sent. */
  'durable',
  /** PUBREC is on its way to the socket. */
  'answered',
  /** PUBREL came, and is on the disk; PUBCOMP is not sent. */
  'released',
] as const
export type FaultPoint = (typeof faultPoints)[number]

const file = process.env['FAULT_FILE']

function pass(point: FaultPoint): void {
  if (file === undefined || fs.readFileSync(file, 'utf8') !== point) return
  fs.writeFileSync(file, '')
  process.kill(process.pid, 'SIGKILL')
  // Not one more step.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}

const exactly = ({ flags, route }: Arrival): boolean => (flags & 6) === 4 && route.use === 'telemetry'

if (isMainThread && file !== undefined && process.argv[1]?.endsWith('server.ts') === true) {
  const { keep } = HeldArrivals.prototype
  HeldArrivals.prototype.keep = function (arrival) {
    keep.call(this, arrival)
    if (exactly(arrival) && arrival.stage === 'route' && arrival.ticket > 0) pass('taken')
  }
  const { deliverKept } = Delivery.prototype
  Delivery.prototype.deliverKept = function (arrival) {
    if (exactly(arrival)) pass('on_disk')
    const delivered = deliverKept.call(this, arrival)
    if (exactly(arrival)) pass('delivered')
    return delivered
  }
  const { acknowledge, settle, released } = Receipts.prototype
  const waitsFor = new WeakMap<Receipts, number>()
  Receipts.prototype.acknowledge = function (flags, packetId, ticket, durable, reasonCode, second, stored) {
    const exact = (flags & 6) === 4
    if (exact) pass('stored')
    const waits = acknowledge.call(this, flags, packetId, ticket, durable, reasonCode, second, stored)
    if (exact && waits) waitsFor.set(this, second ?? 0)
    return waits
  }
  Receipts.prototype.settle = function (durable, stored) {
    const due = stored >= (waitsFor.get(this) ?? Number.POSITIVE_INFINITY)
    if (due) {
      waitsFor.delete(this)
      pass('durable')
    }
    settle.call(this, durable, stored)
    if (due) pass('answered')
  }
  Receipts.prototype.released = function (packetId) {
    pass('released')
    released.call(this, packetId)
  }
}
