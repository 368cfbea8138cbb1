import { parentPort, workerData } from 'node:worker_threads'
import { openApiDocument } from '../openapi.ts'
import { docsPage } from './docs.ts'
import type { Reference } from './reference.ts'

const document = await openApiDocument(String(workerData))
parentPort?.postMessage({ json: JSON.stringify(document), html: docsPage(document) } satisfies Reference)
