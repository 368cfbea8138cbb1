import { createContext, useContext, useMemo, useState } from 'react'
import type { ReactNode } from 'react'
import type { StatusAnswer } from './api.ts'
import { History } from './history.ts'
import type { Look } from './history.ts'
import { useAsk } from './hooks.ts'
import type { Asked } from './hooks.ts'

/** How often the server is asked how it is. */
const everyMs = 2_000

interface Server extends Asked<StatusAnswer> {
  readonly looks: readonly Look[]
}

const ServerContext = createContext<Server | undefined>(undefined)

/** Asks once for all views, so that the figures of the last minutes stay when one is left. */
export function ServerProvider({ children }: { readonly children: ReactNode }) {
  const [history] = useState(() => new History())
  const asked = useAsk(
    'status',
    async (api, signal) => {
      if (history.looks.length === 0) history.begin((await api.system.statusHistory({}, { signal, retries: 0 })).items)
      const status = await api.system.status({}, { signal, retries: 0 })
      history.add(status, Date.parse(status.time))
      return { status, looks: history.looks }
    },
    { everyMs, keep: true },
  )
  const { data } = asked
  const server = useMemo(() => ({ ...asked, data: data?.status, looks: data?.looks ?? [] }), [asked, data])
  return <ServerContext value={server}>{children}</ServerContext>
}

export function useServer(): Server {
  const server = useContext(ServerContext)
  if (server === undefined) throw new Error('useServer is for what lies within ServerProvider')
  return server
}
