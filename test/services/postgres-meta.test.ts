import process from 'node:process'
import { describe } from 'node:test'
import { metaStoreContract } from '../contract/meta-store.ts'
import { newSchema } from '../support/postgres-stores.ts'

const url = process.env['KYMO_TEST_POSTGRES_URL']

if (url === undefined) describe('metadata in PostgreSQL', { skip: 'KYMO_TEST_POSTGRES_URL is not set (npm run test:services)' }, () => undefined)
else {
  metaStoreContract({
    name: 'PostgreSQL',
    module: new URL('./meta-open.ts', import.meta.url),
    create() {
      return Promise.resolve(newSchema(url))
    },
  })
}
