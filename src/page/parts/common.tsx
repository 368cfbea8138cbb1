import { useEffect, useId, useRef, useState } from 'react'
import type { ReactNode } from 'react'
import { reasonOf } from '../api.ts'
import { ago, moment, visible } from '../format.ts'
import { useNow } from '../hooks.ts'
import { useSettings } from '../settings.ts'

/** How long ago, renewed by itself; the moment itself on hover and for readers of the screen. */
export function Ago({ at }: { readonly at: string | null | undefined }) {
  const now = useNow(1_000)
  const { zone } = useSettings()
  if (at === null || at === undefined) return <span className="soft">never</span>
  const ms = Date.parse(at)
  return (
    <time dateTime={at} title={moment(ms, zone)}>
      {ago(now - ms)}
    </time>
  )
}

/** A name that came from outside: it may read from right to left, and hold what cannot be seen. */
export function Name({ of }: { readonly of: string }) {
  return <bdi className="name">{visible(of)}</bdi>
}

export function Problem({ error, again }: { readonly error: unknown; readonly again?: () => void }) {
  const { title, detail, code } = reasonOf(error)
  return (
    <div className="problem" role="alert">
      <strong>{title}</strong>
      <p>
        {detail}
        {code !== undefined && <code className="code">{code}</code>}
      </p>
      {again !== undefined && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  )
}

export function Empty({ title, children }: { readonly title: string; readonly children?: ReactNode }) {
  return (
    <div className="empty">
      <strong>{title}</strong>
      {children !== undefined && <p>{children}</p>}
    </div>
  )
}

export function Loading() {
  return (
    <div className="loading" role="status">
      Loading…
    </div>
  )
}

export function PageHead({ title, children }: { readonly title: ReactNode; readonly children?: ReactNode }) {
  return (
    <header className="page-head">
      <h1>{title}</h1>
      <div className="page-tools">{children}</div>
    </header>
  )
}

/** One of a few; arrow keys move within it, as in any group of radio buttons. */
export function Choice<T extends string>(o: {
  readonly label: string
  readonly options: readonly (readonly [value: T, text: string])[]
  readonly value: T
  readonly onChange: (value: T) => void
}) {
  const name = useId()
  return (
    <fieldset className="choice">
      <legend className="unseen">{o.label}</legend>
      {o.options.map(([value, text]) => (
        <label key={value}>
          <input type="radio" name={name} value={value} checked={value === o.value} onChange={() => o.onChange(value)} />
          <span>{text}</span>
        </label>
      ))}
    </fieldset>
  )
}

/** A command with a button that copies it. */
export function Command({ title, text }: { readonly title: string; readonly text: string }) {
  const [said, setSaid] = useState('')
  const code = useRef<HTMLElement>(null)
  useEffect(() => {
    if (said === '') return undefined
    const timer = window.setTimeout(() => setSaid(''), 2_000)
    return () => window.clearTimeout(timer)
  }, [said])
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text)
      setSaid('Copied')
    } catch {
      // Without TLS beyond loopback there is no clipboard: mark it, for Ctrl-C.
      const range = document.createRange()
      if (code.current !== null) range.selectNodeContents(code.current)
      window.getSelection()?.removeAllRanges()
      window.getSelection()?.addRange(range)
      setSaid('Press Ctrl-C')
    }
  }
  return (
    <figure className="command">
      <figcaption>
        {title}
        <button type="button" className="quiet" onClick={() => void copy()} aria-label={`Copy the command: ${title}`}>
          <span aria-live="polite">{said === '' ? 'Copy' : said}</span>
        </button>
      </figcaption>
      <pre tabIndex={0}>
        <code ref={code}>{text}</code>
      </pre>
    </figure>
  )
}

/** A button that asks once more before it does what cannot be taken back. */
export function Sure({
  children,
  ask,
  disabled,
  onSure,
}: {
  readonly children: ReactNode
  readonly ask: string
  readonly disabled?: boolean
  readonly onSure: () => void
}) {
  const [asking, setAsking] = useState(false)
  useEffect(() => {
    if (!asking) return undefined
    const timer = window.setTimeout(() => setAsking(false), 5_000)
    return () => window.clearTimeout(timer)
  }, [asking])
  return (
    <button
      type="button"
      className={asking ? 'warn' : undefined}
      disabled={disabled}
      onBlur={() => setAsking(false)}
      onClick={() => {
        if (asking) onSure()
        setAsking(!asking)
      }}
    >
      {asking ? ask : children}
    </button>
  )
}

/** Text with names between backticks, as the reference writes it. */
export function Prose({ text }: { readonly text: string }) {
  // The parts never change places: their number names them.
  const parts = text.split('`').map((part, i) => ({ part, key: `${i}`, code: i % 2 === 1 }))
  return parts.map(({ part, key, code }) => (code ? <code key={key}>{part}</code> : part))
}
