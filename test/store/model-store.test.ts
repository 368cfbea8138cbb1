import { storeContract } from '../contract/store.ts'
import { ModelStore } from '../support/model-store.ts'

storeContract('The model store', {
  open: () => Promise.resolve(new ModelStore()),
  reopen: (store) => Promise.resolve(store),
  remove: () => Promise.resolve(),
})
