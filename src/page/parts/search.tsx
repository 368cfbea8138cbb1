import { useId } from 'react'

/** What a list is narrowed by; `by` says what is looked through. */
export function Search({ by, value, onChange }: { readonly by: string; readonly value: string; readonly onChange: (text: string) => void }) {
  const field = useId()
  return (
    <div className="toolbar" role="search">
      <label htmlFor={field}>Search</label>
      <input
        id={field}
        type="search"
        value={value}
        maxLength={100}
        spellCheck={false}
        autoComplete="off"
        onChange={(event) => onChange(event.target.value)}
      />
      <span className="soft">{by}</span>
    </div>
  )
}
