import { useEffect, useId, useRef, useState } from 'react'
import { localZone, moment } from '../format.ts'
import type { Zone } from '../format.ts'
import { lengthMs, presetNames, presets } from '../range.ts'
import type { Range } from '../range.ts'
import { useSettings } from '../settings.ts'
import { Choice } from './common.tsx'

/** Of a field of type datetime-local: a time without a zone. */
function fieldValue(ms: number, zone: Zone): string {
  return moment(Math.floor(ms / 1000) * 1000, zone)
    .slice(0, 19)
    .replace(' ', 'T')
}

function fieldMs(text: FormDataEntryValue | null, zone: Zone): number {
  if (typeof text !== 'string') return Number.NaN
  return Date.parse(zone === 'utc' ? `${text}Z` : text)
}

export function RangePicker({ range, onChange }: { readonly range: Range; readonly onChange: (range: Range) => void }) {
  const { zone } = useSettings()
  const custom = !('preset' in range)
  // What the fields begin with: fixed when they are opened, as now goes on.
  const [editing, setEditing] = useState<{ readonly from: number; readonly to: number }>()
  const edit = (): void => {
    const now = Date.now()
    setEditing(custom ? range : { from: now - lengthMs(range), to: now })
  }
  return (
    <div className="range">
      <Choice
        label="Time range"
        options={[...presets.map((preset) => [preset, presetNames[preset]] as const), ['custom', 'Custom'] as const]}
        value={custom ? 'custom' : range.preset}
        onChange={(value) => {
          if (value === 'custom') edit()
          else onChange({ preset: value })
        }}
      />
      {custom && (
        <button type="button" className="quiet" onClick={edit} aria-label="Change the time range">
          {moment(Math.floor(range.from / 1000) * 1000, zone).replace(' UTC', '')} – {moment(Math.ceil(range.to / 1000) * 1000, zone)}
        </button>
      )}
      {editing !== undefined && (
        <RangeDialog
          {...editing}
          zone={zone}
          onDone={(next) => {
            setEditing(undefined)
            if (next !== undefined) onChange(next)
          }}
        />
      )}
    </div>
  )
}

/** Undefined: it was left without a choice. */
function RangeDialog({
  from,
  to,
  zone,
  onDone,
}: {
  readonly from: number
  readonly to: number
  readonly zone: Zone
  readonly onDone: (range?: Range) => void
}) {
  const dialog = useRef<HTMLDialogElement>(null)
  const title = useId()
  const [wrong, setWrong] = useState(false)
  useEffect(() => {
    const { current } = dialog
    if (current?.open === false) current.showModal()
  }, [])
  return (
    <dialog ref={dialog} aria-labelledby={title} onClose={() => onDone()}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          const data = new FormData(event.currentTarget)
          const begin = fieldMs(data.get('from'), zone)
          const end = fieldMs(data.get('to'), zone)
          setWrong(!(begin < end))
          if (begin < end) onDone({ from: begin, to: end })
        }}
      >
        <h2 id={title}>Time range</h2>
        <label>
          From
          <input name="from" type="datetime-local" step="1" required defaultValue={fieldValue(from, zone)} />
        </label>
        <label>
          To
          <input name="to" type="datetime-local" step="1" required defaultValue={fieldValue(to, zone)} />
        </label>
        {wrong ? (
          <p role="alert" className="bad">
            From must lie before To.
          </p>
        ) : (
          <p className="soft">{zone === 'utc' ? 'In UTC.' : `In local time (${localZone}).`}</p>
        )}
        <div className="row">
          <button type="submit" className="main">
            Show
          </button>
          <button type="button" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
        </div>
      </form>
    </dialog>
  )
}
