import { serveCalls } from '../sqlite/call-server.ts'
import type { ForecastsRequest } from './calls.ts'
import { packPredictions } from './packed.ts'
import { SqliteForecasts } from './sqlite-forecasts.ts'

/** Entry of the thread of forecasts. */
serveCalls<ForecastsRequest, SqliteForecasts>({
  noun: 'forecasts file',
  open: ({ path }) => new SqliteForecasts(path),
  serve(forecasts, request) {
    const { models } = forecasts
    switch (request.op) {
      case 'write':
        return { value: forecasts.write(request.forecasts, request.states) }
      case 'predictions': {
        const packed = packPredictions(forecasts.predictions(request.query))
        return { value: packed, transfer: [packed.buffer] }
      }
      case 'latest': {
        const found = forecasts.latest(request.keys)
        const packed = packPredictions(found.flat())
        return { value: { counts: found.map((one) => one.length), packed }, transfer: [packed.buffer] }
      }
      case 'states':
        return { value: forecasts.states(request.keys) }
      case 'addModel':
        return { value: models.add(request.model) }
      case 'promote':
        return { value: models.promote(request.key, request.version) }
      case 'retire':
        return { value: models.retire(request.key) }
      case 'versions':
        return { value: models.versions(request.key, request.before) }
      case 'models':
        return { value: models.list(request.query) }
      case 'file':
        return { value: models.file(request.key, request.version) }
      case 'erase':
        return { value: forecasts.erase(request.tenant, request.device) }
      case 'expire':
        return { value: forecasts.expire(request.expiry) }
      case 'stats':
        return { value: forecasts.stats() }
    }
  },
})
