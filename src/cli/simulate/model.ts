import type { FaultKind } from './faults.ts'
import { FaultProcess } from './faults.ts'
import { SeededRandom } from '../../core/seeded-random.ts'

/** One message as S1's devices send it: degrees C, % RH, % of charge. */
export interface Sample {
  readonly deviceId: string
  readonly firmware: string
  readonly temperature: number
  readonly humidity: number
  readonly battery: number
  readonly timeMs: number
}

export interface DeviceOptions {
  readonly seed: number
  /** Which device of the fleet, from 0. */
  readonly index: number
  readonly deviceId: string
  readonly faults?: readonly FaultKind[]
  /** Mean number of faults an hour. */
  readonly faultsPerHour?: number
}

const dayMs = 86_400_000
const yearMs = 365.2425 * dayMs
/** Northern hemisphere: the coldest day is about the 20th of January, the coldest hour about 5 in the morning, UTC. */
const coldestDayMs = 20 * dayMs
const coldestHourMs = 5 * 3_600_000
/** How slowly the deviation from the regular course changes. */
const weatherTimeMs = 4 * 3_600_000
const roomTimeMs = 12 * 60_000
/** Noise of a cheap sensor from one sample to the next. */
const temperatureNoise = 0.06
const humidityNoise = 0.35
/** Relative humidity falls by about this much a degree at constant water content near 20 C. */
const humidityPerDegree = 2.4
const replacedBelow = 4

const firmwares: readonly [string, ...string[]] = ['1.0.0', '1.0.0', '1.0.0', '1.1.0', '1.1.2']

/**
 * One device whose readings are determined by seed and index and the times it is asked for (which must not go back). The
 * regular course is season plus day; on it lie two Ornstein-Uhlenbeck processes (weather over hours, the room over minutes,
 * exact for any step) and the sensor's own noise. Humidity goes against temperature. The battery drains, faster when it is
 * cold, and is replaced when it is nearly empty.
 */
export class SimulatedDevice {
  readonly deviceId: string
  readonly firmware: string
  readonly #random: SeededRandom
  readonly #faults: FaultProcess
  readonly #mean: number
  readonly #dayAmplitude: number
  readonly #yearAmplitude: number
  readonly #phaseMs: number
  readonly #humidityMean: number
  readonly #drainPerDay: number
  #weather: number
  #room: number
  #humidityDrift: number
  #battery: number
  #lastMs: number | undefined

  constructor(o: DeviceOptions) {
    const random = new SeededRandom(o.seed, o.index * 2 + 1)
    this.#random = random
    this.#faults = new FaultProcess(new SeededRandom(o.seed, o.index * 2 + 2), o.faults ?? [], o.faultsPerHour ?? 6)
    this.deviceId = o.deviceId
    this.firmware = random.pick(firmwares)
    const outdoor = random.next() < 0.3
    this.#mean = outdoor ? random.between(9, 13) : random.between(19.5, 23)
    this.#dayAmplitude = outdoor ? random.between(3.5, 6) : random.between(0.8, 2)
    this.#yearAmplitude = outdoor ? random.between(8, 11) : random.between(0.8, 1.8)
    this.#phaseMs = random.between(-1, 1) * 3_600_000
    this.#humidityMean = outdoor ? random.between(66, 76) : random.between(42, 52)
    // A cell of two to eight months.
    this.#drainPerDay = random.between(100 / 240, 100 / 60)
    this.#weather = random.normal() * (outdoor ? 2 : 0.5)
    this.#room = random.normal() * 0.3
    this.#humidityDrift = random.normal() * 3
    this.#battery = random.between(35, 100)
  }

  /** Faults that have begun so far, by kind. */
  get faults(): Readonly<Record<FaultKind, number>> {
    return this.#faults.counts
  }

  /** The reading at `timeMs`, or undefined while the device is silent. */
  sample(timeMs: number): Sample | undefined {
    const stepMs = this.#lastMs === undefined ? 0 : Math.max(0, timeMs - this.#lastMs)
    this.#lastMs = timeMs
    const random = this.#random
    this.#weather = relax(this.#weather, stepMs, weatherTimeMs, this.#yearAmplitude / 4, random)
    this.#room = relax(this.#room, stepMs, roomTimeMs, 0.3, random)
    this.#humidityDrift = relax(this.#humidityDrift, stepMs, weatherTimeMs, 3, random)

    const year = -Math.cos((2 * Math.PI * (timeMs - coldestDayMs)) / yearMs)
    const day = -Math.cos((2 * Math.PI * (timeMs - coldestHourMs - this.#phaseMs)) / dayMs)
    const deviation = this.#dayAmplitude * day + this.#weather + this.#room
    const truth = this.#mean + this.#yearAmplitude * year + deviation
    const climate = {
      temperature: truth + random.normal() * temperatureNoise,
      humidity: clamp(this.#humidityMean - humidityPerDegree * deviation + this.#humidityDrift + random.normal() * humidityNoise, 5, 100),
    }
    this.#drain(stepMs, truth)
    if (!this.#faults.apply(climate, timeMs)) return undefined
    return {
      deviceId: this.deviceId,
      firmware: this.firmware,
      temperature: round(climate.temperature, 2),
      humidity: round(climate.humidity, 1),
      battery: round(this.#battery, 1),
      timeMs,
    }
  }

  #drain(stepMs: number, temperature: number): void {
    const cold = temperature < 10 ? 1 + (10 - temperature) * 0.03 : 1
    this.#battery -= (this.#drainPerDay * cold * stepMs) / dayMs
    if (this.#battery < replacedBelow) this.#battery = 100
  }
}

/** One exact step of an Ornstein-Uhlenbeck process around 0 with standard deviation `sigma` (Gillespie 1996, eq. 3.1). */
function relax(value: number, stepMs: number, timeMs: number, sigma: number, random: SeededRandom): number {
  const kept = Math.exp(-stepMs / timeMs)
  return value * kept + sigma * Math.sqrt(1 - kept * kept) * random.normal()
}

function clamp(value: number, min: number, max: number): number {
  return value < min ? min : value > max ? max : value
}

function round(value: number, digits: number): number {
  const scale = 10 ** digits
  return Math.round(value * scale) / scale
}

/**
 * S1's payload. `timestamp` is Unix seconds, whole ones where the device's interval keeps them apart, so that a reader of
 * S1's format finds what it expects.
 */
export function payloadOf(sample: Sample, wholeSeconds: boolean): string {
  const timestamp = wholeSeconds ? Math.floor(sample.timeMs / 1000) : sample.timeMs / 1000
  return JSON.stringify({
    device_id: sample.deviceId,
    firmware: sample.firmware,
    temperature: sample.temperature,
    humidity: sample.humidity,
    battery: sample.battery,
    timestamp,
  })
}
