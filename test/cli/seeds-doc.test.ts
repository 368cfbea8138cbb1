import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { createProgram } from '../../src/cli/main.ts'
import { processTerminal } from '../../src/cli/terminal.ts'
import { aliases } from '../../src/core/config-aliases.ts'
import { configLeaves } from '../../src/core/config.ts'
import { openApiDocument } from '../../src/doors/http/openapi.ts'

const root = path.resolve(import.meta.dirname, '../..')
const page = fs.readFileSync(path.join(root, 'docs/seeds.md'), 'utf8')
const rows = page.split('\n').filter((line) => line.startsWith('| '))
const inCode = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map((found) => found[1]!)

/** Commands, flags, scripts, files, services and library calls that the five documents name. */
const named = `
setup-environment.sh | simulate-sensors.sh | deploy/deploy.sh | deploy/aws-infrastructure.yaml | docker-compose up -d | mqtt_simulator.py | Dockerfile |
Dockerfile.production | mosquitto.conf | docker-compose.yml | fastapi_app.py | temperature_ml_model.py | mqtt_kinesis_ingester.py | kinesis_processor.py |
requirements.txt | iot-temp-forecast-cluster | iot-temp-forecast-service | /ecs/iot-temp-forecast | iot-temp-forecast-temperature-sensor-stream | ECS Fargate |
ALB | ECR | CloudWatch | IAM | VPC | non-root | image scan | HTTPS at the ALB |
device_simulator.py | --device-count 5 --interval 2 | --broker localhost --topic portfolio/telemetry | analytics.py | all-device summary | temperature anomalies |
low batter | IoTAnalytics({host, port, database, user, password}) | get_device_latest_readings(id) | get_device_statistics(id, hours=24) |
detect_temperature_anomalies(threshold_stddev=2.0) | detect_low_battery_devices(threshold=20.0) | inactive-device check | infrastructure/ | mosquitto |
timescaledb | iot-processor | device-simulator | Grafana | Prometheus | device_telemetry | time_bucket | timescaledb_information.hypertables |
continuous aggregates | retention | compression | mosquitto_pub | mosquitto_sub | pytest |
eksctl | aws kafka | Timestream | device-service | 3 replicas | port 8080 | iot/device-service:latest | Terraform | K8s manifests | tests | API docs |
monitoring dashboards | Greengrass components | iot-data-stream | iot-timeseries | device-data | iot-kafka | DynamoDB |
tools/load_generator.py --devices 10 --rps 1.0 --base-url http://localhost:8001 | for each device | k8s/deploy.sh | HPA | 2-10 | 1-5 | 2-8 |
requests and limits | NGINX Ingress | ServiceMonitor | ConfigMap | readiness and liveness probes | liro/<service>:latest | ingestion-api | dashboard-api |
aggregator-worker | alerts-worker | kafka | zookeeper | mongo | telemetry.raw | telemetry.dlq | num.partitions | replication.factor | batch.size | linger.ms |
telemetry_raw | aggregated_data |
uvicorn app.main:app --reload --port 8000 | migrations/create_prediction_tables.py | test_predictions.py | models/sensor_N_model/ | LSTM | replica lag |
prediction table growth | accuracy | drift | retraining | Heroku add-on | follower
`
  .split('|')
  .map((name) => name.trim())

test('every name of the documents is in docs/seeds.md', () => {
  const text = page.toLowerCase()
  assert.deepEqual(
    named.filter((name) => !text.includes(name.toLowerCase())),
    [],
  )
})

test('every command that docs/seeds.md shows is one, with these options', async () => {
  const program = await createProgram(() => true, processTerminal())
  const shown = inCode(page).filter((code) => /^kymo [a-z]/.test(code))
  assert.ok(shown.length > 20)
  for (const line of shown) {
    const words = [...line.matchAll(/"[^"]*"|\S+/g)].map((word) => word[0]).slice(1)
    let command = program.commands.find((one) => one.name() === words[0])
    assert.ok(command !== undefined, `${line}: there is no such command`)
    const sub = command.commands.find((one) => one.name() === words[1])
    if (sub === undefined && command.commands.length > 0) assert.ok(words[1] === undefined, `${line}: ${words[0]} has no ${words[1]}`)
    command = sub ?? command
    for (const word of words.filter((one) => one.startsWith('--'))) {
      const fits = command.options.some((option) => option.long === word) || configLeaves().some(({ flag }) => flag === word && words[0] === 'start')
      assert.ok(fits, `${line}: there is no ${word}`)
    }
  }
  const { scripts } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
  for (const line of inCode(page).filter((code) => code.startsWith('npm '))) {
    const name = /^npm (?:run )?([a-z:]+)/.exec(line)?.[1] ?? ''
    assert.ok(Object.hasOwn(scripts, name), line)
  }
})

test('every path of ours that docs/seeds.md names exists, and none that it says comes later', async () => {
  const { paths } = await openApiDocument()
  const known = new Set(Object.entries(paths).flatMap(([url, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${url}`)))
  const missing: string[] = []
  const early: string[] = []
  // Metrics are on the ports of what comes later too; the page of /docs is no part of the API.
  for (const row of rows) {
    const later = row.includes('Later:')
    for (const code of inCode(row)) {
      if (!/^(?:GET|POST|PUT) \//.test(code) || code === 'GET /metrics' || code === 'GET /docs') continue
      if (known.has(code) && later) early.push(code)
      if (!known.has(code) && !later) missing.push(code)
    }
  }
  // What the row says of these is about something beside them.
  assert.deepEqual({ missing, early: early.filter((code) => code !== 'GET /telemetry' && code !== 'GET /aggregated') }, { missing: [], early: [] })
  const compatible = Object.entries(paths).flatMap(([url, methods]) =>
    Object.entries(methods)
      .filter(([, operation]) => operation.tags?.includes('compatibility') === true)
      .map(([method]) => `${method.toUpperCase()} ${url}`),
  )
  // InfluxDB's routes are none of the documents'; docs/reference/line-protocol.md has them.
  const told = new Set([...inCode(page), 'POST /api/v2/write', 'POST /write', 'GET /query', 'POST /query', 'GET /ping'])
  assert.deepEqual(
    compatible.filter((route) => !told.has(route)),
    [],
    'routes of the seeds that the page does not tell of',
  )
})

test('variables, settings and files that docs/seeds.md names are there', () => {
  const settings = new Set(configLeaves().map(({ name }) => name))
  for (const { variable, setting, readBy } of aliases) {
    const row = rows.findLast((line) => line.includes(`\`${variable}\``))
    assert.ok(row !== undefined, `${variable} is not told of`)
    const works = readBy !== undefined || (setting !== undefined && settings.has(setting))
    assert.equal(row.includes('Later:'), !works, row)
  }
  for (const code of inCode(page)) {
    if (/^(?:store|mqtt|http|retention|log)\.[a-z_.]+$/.test(code)) assert.ok(settings.has(code), `${code} is no setting`)
    if (/^(?:src|scripts|docs|e2e)\/[\w./-]+$/.test(code)) assert.ok(fs.existsSync(path.join(root, code)), `${code} is no file`)
  }
  for (const link of [...page.matchAll(/\]\(([^)]+)\)/g)].map((found) => found[1]!))
    assert.ok(fs.existsSync(path.join(root, 'docs', link)), `${link} is no file`)
  for (const script of ['setup-environment.sh', 'simulate-sensors.sh'])
    assert.equal(fs.statSync(path.join(root, 'scripts', script)).mode & 0o111, 0o111, `${script} cannot be run`)
})
