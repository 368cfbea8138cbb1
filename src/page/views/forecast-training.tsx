import { useEffect, useId, useRef, useState } from 'react'
import type { Job } from '../api.ts'
import { isTrainingOf } from '../forecast-data.ts'
import { kindName, percent, shareOf, trainableKinds, trainedText, trainingText } from '../forecast-text.ts'
import { visible } from '../format.ts'
import { useAccess, useAsk } from '../hooks.ts'
import { Ago, Problem, Sure } from '../parts/common.tsx'

/** While one runs it is asked for so often; else so often, as somebody else may begin one. */
const runningMs = 1_000
const idleMs = 20_000
/** Of the newest trainings: whether one of them is of this series. */
const jobsLooked = 50

/** Begins a training and shows how far it is, also one that somebody else has begun or that was begun before the page was opened. */
export function Training({ device, metric, onDone }: { readonly device: string; readonly metric: string; readonly onDone: () => void }) {
  const { api } = useAccess()
  const field = useId()
  const [kind, setKind] = useState('')
  const [failed, setFailed] = useState<unknown>()
  const [busy, setBusy] = useState(false)
  const [often, setOften] = useState(false)
  const { data, error, again } = useAsk(
    `trainings ${device} ${metric}`,
    async (api, signal) => {
      const { items } = await api.jobs.list({ kind: 'train', limit: jobsLooked }, { signal })
      return { job: items.find(({ parameters }) => isTrainingOf(parameters, device, metric)) }
    },
    { everyMs: often ? runningMs : idleMs, keep: true },
  )
  const job = data?.job
  const active = job !== undefined && (job.state === 'waiting' || job.state === 'running')
  if (active !== often) setOften(active)
  const watched = useRef<string>(undefined)
  useEffect(() => {
    if (active) watched.current = job.id
    else if (job !== undefined && watched.current === job.id) {
      watched.current = undefined
      onDone()
    }
  })
  const act = (work: () => Promise<unknown>): void => {
    const run = async (): Promise<void> => {
      setBusy(true)
      setFailed(undefined)
      try {
        await work()
      } catch (thrown) {
        setFailed(thrown)
      }
      setBusy(false)
      again()
    }
    void run()
  }
  const train = (): void => act(() => api.models.train({ body: { series: [{ device, metric }], ...(kind === '' ? {} : { kinds: [kind] }) } }))
  return (
    <div className="training">
      {active ? (
        <Running job={job} busy={busy} onCancel={() => act(() => api.jobs.cancel({ id: job.id }))} />
      ) : (
        <div className="row">
          <label htmlFor={field}>Model</label>
          <select id={field} value={kind} onChange={(event) => setKind(event.target.value)}>
            <option value="">best of several</option>
            {trainableKinds.map((name) => (
              <option key={name} value={name}>
                {kindName(name)}
              </option>
            ))}
          </select>
          <button type="button" className="main" disabled={busy} aria-label={`Train a model of ${metric}`} onClick={train}>
            Train
          </button>
        </div>
      )}
      <div role="status">{!active && job !== undefined && <Ended job={job} />}</div>
      {failed !== undefined && <Problem error={failed} />}
      {error !== undefined && <Problem error={error} again={again} />}
    </div>
  )
}

function Running({ job, busy, onCancel }: { readonly job: Job; readonly busy: boolean; readonly onCancel: () => void }) {
  const share = shareOf(job.progress)
  const text = [trainingText(job.progress), share === undefined ? '' : percent(share)].filter(Boolean).map((part) => ` · ${part}`)
  return (
    <div className="row">
      <progress className="share" aria-label="Training" max={1} {...(job.state === 'running' && share !== undefined ? { value: share } : {})} />
      <span className="soft">
        <span role="status">{job.state === 'waiting' ? 'Waits for its turn' : 'Training'}</span>
        {/* The bar tells readers of the screen how far it is, when they ask. */}
        <span aria-hidden="true">{text}</span>
      </span>
      <Sure ask="Cancel the training?" disabled={busy} onSure={onCancel}>
        Cancel
      </Sure>
    </div>
  )
}

/** How the latest training went. */
function Ended({ job }: { readonly job: Job }) {
  const { state, error, progress, finished_at: finished } = job
  const text =
    state === 'cancelled'
      ? 'The training was cancelled'
      : state === 'failed'
        ? `The training failed: ${visible(error?.detail ?? 'the server did not say why')}`
        : trainedText(progress)
  return (
    <p className={state === 'failed' ? 'bad' : 'soft'}>
      {text}
      {typeof finished === 'string' && (
        <>
          {' '}
          (<Ago at={finished} />)
        </>
      )}
    </p>
  )
}
