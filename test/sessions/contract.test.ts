import { openEmbeddedLog } from '../../src/log/embedded/log.ts'
import { openSessionStore } from '../../src/store/sessions/store.ts'
import { sessionStoreContract, type OpenSessionStore } from '../contract/session-store.ts'
import { ModelSessions } from '../support/model-sessions.ts'
import { SimClock, simEnv } from '../sim/clock.ts'

const dir = '/data/log'

/** `rewriteBytes` 1: the journal is written anew all the time. */
for (const rewriteBytes of [undefined, 1]) {
  const open: OpenSessionStore = async (limits, whenFull) => {
    let env = simEnv(1)
    const { clock } = env
    const openLog = () => openEmbeddedLog({ dir, env, threads: false, segmentBytesMax: 4096, reserveBytes: 0 })
    const options = {
      ...(limits === undefined ? {} : { limits }),
      ...(whenFull === undefined ? {} : { whenFull }),
      ...(rewriteBytes === undefined ? {} : { rewriteBytes }),
    }
    let log = await openLog()
    let store = await openSessionStore({ log, env, ...options })
    return {
      get store() {
        return store
      },
      crash: async () => {
        const disk = env.disk.crash()
        await store.close()
        await log.close().catch(() => undefined)
        env = { ...env, clock, disk }
        log = await openLog()
        store = await openSessionStore({ log, env, ...options })
        return store
      },
      nowUs: () => clock.nowUs(),
      advance: (ms) => clock.advance(ms),
      close: async () => {
        await store.close()
        await log.close()
      },
    }
  }
  sessionStoreContract(`embedded${rewriteBytes === undefined ? '' : ', always rewriting'}`, open)
}

sessionStoreContract('the model', async (limits, whenFull) => {
  const clock = new SimClock()
  const model = new ModelSessions(() => clock.nowUs(), limits, whenFull)
  return await Promise.resolve({
    store: model,
    crash: async () => {
      model.restart()
      return await Promise.resolve(model)
    },
    nowUs: () => clock.nowUs(),
    advance: async (ms) => {
      for (let passed = 0; passed < ms; passed += 500) {
        await clock.advance(500)
        model.tick()
      }
    },
    close: () => model.close(),
  })
})
