import { KymoError } from '../../core/errors.ts'
import type { Api } from '../api.ts'

/** CPU seconds that the server has used since its start; undefined when it does not tell. */
export async function serverCpuSeconds(api: Api): Promise<number | undefined> {
  let text: string
  try {
    text = await api.text('/metrics')
  } catch (error) {
    if (error instanceof KymoError) return undefined
    throw error
  }
  const line = text.split('\n').find((candidate) => candidate.startsWith('process_cpu_seconds_total'))
  const value = Number(line?.trim().split(/\s+/)[1])
  return Number.isFinite(value) ? value : undefined
}
