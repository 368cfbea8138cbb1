import { useId, useState } from 'react'
import type { CrossingForecast } from '../api.ts'
import { calibrationText, crossingText } from '../forecast-text.ts'
import { visible } from '../format.ts'
import { useAccess } from '../hooks.ts'
import { Choice, Problem } from '../parts/common.tsx'

type Side = 'above' | 'below'

const hourMs = 3_600_000

/** Will it go above, or below, within so many hours? Answered with a probability, or with why there is none. */
export function Crossing(o: { readonly device: string; readonly metric: string; readonly unit: string | undefined; readonly horizonMs: number }) {
  const { device, metric, unit, horizonMs } = o
  const { api } = useAccess()
  const threshold = useId()
  const within = useId()
  const [side, setSide] = useState<Side>('above')
  const [answer, setAnswer] = useState<CrossingForecast>()
  const [failed, setFailed] = useState<unknown>()
  const [busy, setBusy] = useState(false)
  const hoursMax = Math.max(1, Math.floor(horizonMs / hourMs))
  const ask = async (form: FormData): Promise<void> => {
    setBusy(true)
    setFailed(undefined)
    const value = Number(form.get('threshold'))
    const crossed = side === 'above' ? { above: value } : { below: value }
    try {
      setAnswer(await api.forecasts.getForecastCrossing({ device, metric, ...crossed, within: `${Math.round(Number(form.get('within')) * 60)}m` }))
    } catch (thrown) {
      setAnswer(undefined)
      setFailed(thrown)
    }
    setBusy(false)
  }
  return (
    <>
      <form
        className="row crossing"
        aria-label="Will it cross?"
        onSubmit={(event) => {
          event.preventDefault()
          void ask(new FormData(event.currentTarget))
        }}
      >
        <Choice
          label="Direction"
          options={[
            ['above', 'Above'],
            ['below', 'Below'],
          ]}
          value={side}
          onChange={setSide}
        />
        <label htmlFor={threshold} className="unseen">
          Threshold
        </label>
        <input id={threshold} name="threshold" type="number" step="any" required />
        {unit !== undefined && <span>{visible(unit)}</span>}
        <label htmlFor={within}>within</label>
        <input id={within} name="within" type="number" min="0.5" max={hoursMax} step="any" required defaultValue={Math.min(6, hoursMax)} />
        <span>h</span>
        <button type="submit" disabled={busy}>
          Ask
        </button>
      </form>
      <div role="status">
        {answer !== undefined && (
          <>
            <p className="said-crossing">
              <strong>{crossingText(answer, unit)}</strong>
            </p>
            <p className="soft">{calibrationText(answer)}</p>
          </>
        )}
      </div>
      {failed !== undefined && <Problem error={failed} />}
    </>
  )
}
