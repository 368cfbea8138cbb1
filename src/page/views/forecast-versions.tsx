import { useState } from 'react'
import type { ForecastModel } from '../api.ts'
import { amount, modelName, skillFigure, stateNames } from '../forecast-text.ts'
import { useAccess } from '../hooks.ts'
import { Ago, Problem, Sure } from '../parts/common.tsx'

/** Every version that was trained, newest first, and which of them serves. */
export function Versions({ items, onChange }: { readonly items: readonly ForecastModel[]; readonly onChange: () => void }) {
  const { api } = useAccess()
  const [failed, setFailed] = useState<unknown>()
  const [busy, setBusy] = useState(false)
  const promote = async ({ device, metric, version }: ForecastModel): Promise<void> => {
    setBusy(true)
    setFailed(undefined)
    try {
      await api.models.promote({ device, metric, version: String(version) })
    } catch (thrown) {
      setFailed(thrown)
    }
    setBusy(false)
    onChange()
  }
  if (items.length === 0) return <p className="soft">Nobody has trained one yet.</p>
  return (
    <>
      <div className="scroll auto" tabIndex={0} role="region" aria-label="Versions">
        <table className="list numbers">
          <thead>
            <tr>
              <th scope="col">Version</th>
              <th scope="col">Model</th>
              <th scope="col">State</th>
              <th scope="col">Trained</th>
              <th scope="col" className="num">
                Mean error
              </th>
              <th scope="col" className="num">
                Skill
              </th>
              <th scope="col">
                <span className="unseen">Promotion</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {items.map((model) => (
              <tr key={model.version}>
                <th scope="row">{model.version}</th>
                <td>{modelName(model.kind, model.card)}</td>
                <td>{stateNames[model.state]}</td>
                <td>
                  <Ago at={model.created_at} />
                </td>
                <td className="num">{amount(model.accuracy?.mae ?? null, model.unit)}</td>
                <td className="num">{skillFigure(model.accuracy?.skill ?? null, model.card)}</td>
                <td className="num">
                  {model.state !== 'champion' && (
                    <Sure ask={`Let ${model.version} serve?`} disabled={busy} onSure={() => void promote(model)}>
                      Promote
                    </Sure>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {failed !== undefined && <Problem error={failed} />}
    </>
  )
}
