import { moment } from '../format.ts'
import { useSettings } from '../settings.ts'

/** Figures by time, newest first: what a chart shows, for who reads rather than looks. `columns`: a title and a text a row of `time`. */
export function NumberTable({
  label,
  time,
  columns,
}: {
  readonly label: string
  readonly time: readonly number[]
  readonly columns: readonly (readonly [title: string, textOf: (row: number) => string])[]
}) {
  const { zone } = useSettings()
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={label}>
      <table className="list numbers">
        <thead>
          <tr>
            <th scope="col">Time</th>
            {columns.map(([title]) => (
              <th key={title} scope="col" className="num">
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {time
            .map((t, i) => (
              <tr key={t}>
                <td>{moment(t, zone)}</td>
                {columns.map(([title, textOf]) => (
                  <td key={title} className="num">
                    {textOf(i)}
                  </td>
                ))}
              </tr>
            ))
            .toReversed()}
        </tbody>
      </table>
    </div>
  )
}
