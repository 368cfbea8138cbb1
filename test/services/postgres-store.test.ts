import process from 'node:process'
import { describe } from 'node:test'
import { storeContract } from '../contract/store.ts'
import { postgresStores } from '../support/postgres-stores.ts'

const url = process.env['KYMO_TEST_POSTGRES_URL']

if (url === undefined) describe('the store in PostgreSQL', { skip: 'KYMO_TEST_POSTGRES_URL is not set (npm run test:services)' }, () => undefined)
else {
  storeContract('PostgreSQL', postgresStores(url))
  storeContract('PostgreSQL, of metrics beyond the columns of messages,', postgresStores(url, 0))
}
