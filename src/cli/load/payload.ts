import type { Schedule } from './ledger.ts'
import { deviceOf, temperatureOf, timeUsOf } from './ledger.ts'

export const formats = ['canonical', 'flat', 'sensor-data', 'data-point', 'reading'] as const
export type Format = (typeof formats)[number]

/** Each shape's own route, for one message and for many. */
export const routes: Readonly<Record<Format, { readonly one: string; readonly many: string }>> = {
  canonical: { one: '/api/v1/telemetry', many: '/api/v1/telemetry' },
  flat: { one: '/api/v1/telemetry', many: '/api/v1/telemetry' },
  'sensor-data': { one: '/sensor-data', many: '/sensor-data' },
  'data-point': { one: '/ingest', many: '/ingest/batch' },
  reading: { one: '/ingest', many: '/api/v1/telemetry' },
}

/** Message n as JSON. Every shape carries the temperature that the reading back looks for, and the scheduled time to the microsecond. */
export function encodeMessage(schedule: Schedule, format: Format, n: number): string {
  const device = deviceOf(schedule, n % schedule.devices)
  const us = timeUsOf(schedule, n)
  const temperature = temperatureOf(n)
  const humidity = 40 + (n % 300) / 10
  switch (format) {
    case 'canonical':
      return `{"device":"${device}","time":${us},"values":{"temperature":${temperature},"humidity":${humidity},"battery":87.5}}`
    case 'flat':
      return `{"device_id":"${device}","firmware":"1.0.0","temperature":${temperature},"humidity":${humidity},"battery":87.5,"timestamp":${us}}`
    case 'sensor-data':
      return `{"sensor_id":"${device}","temperature":${temperature},"humidity":${humidity},"location":"load","timestamp":${us}}`
    case 'data-point':
      return `{"device_id":"${device}","timestamp":"${rfc3339(us)}","metric":"temperature","value":${temperature},"unit":"C"}`
    case 'reading':
      return `{"device_id":"${device}","ts":"${rfc3339(us)}","temperature_c":${temperature},"humidity":${humidity}}`
  }
}

/** With six digits of a second. */
export function rfc3339(us: number): string {
  const ms = Math.floor(us / 1_000)
  return `${new Date(ms).toISOString().slice(0, -1)}${String(us - ms * 1_000).padStart(3, '0')}Z`
}
