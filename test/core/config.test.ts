import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { aliases, aliasesIn } from '../../src/core/config-aliases.ts'
import { readConfigFile } from '../../src/core/config-file.ts'
import { changedConfig, checkTogether, loadConfig, resolveConfig, valueOf, type FileSettings } from '../../src/core/config-resolve.ts'
import { configLeaves } from '../../src/core/config.ts'
import { shown } from '../../src/core/config-value.ts'
import { KymoError } from '../../src/core/errors.ts'
import { limits } from '../../src/core/limits.ts'
import { fuzzRuns } from '../support/effort.ts'

const noSecrets = (file: string): string => assert.fail(`asked for ${file}`)

async function fileOf(text: string): Promise<FileSettings> {
  const { settings, errors } = await readConfigFile(text, 'kymo.yaml', noSecrets)
  assert.deepEqual(errors, [])
  return settings
}

/** `line:column  what`, without the quoted line. */
async function wrongs(text: string): Promise<string[]> {
  const { errors } = await readConfigFile(text, 'kymo.yaml', noSecrets)
  return errors.map(({ pointer, detail }) => `${pointer.replace('kymo.yaml:', '')}  ${detail.split('\n')[0]}`)
}

function refusal(work: () => unknown): KymoError {
  try {
    work()
  } catch (thrown) {
    assert.ok(thrown instanceof KymoError)
    assert.equal(thrown.code, 'config_invalid')
    return thrown
  }
  assert.fail('not refused')
}

test('a flag wins over the environment, that over the file, that over a seed’s variable, that over the default; each says where from', async () => {
  const file = await fileOf('http:\n  port: 3\n  host: localhost\nmqtt: {port: 4}\nlog:\n  level: warn\n')
  const env = { KYMO_HTTP_PORT: '2', KYMO_MQTT_PORT: '5', PORT: '6', ENVIRONMENT: 'production', SECRET_KEY: 'k' }
  const { config, origins } = resolveConfig({ flags: { 'http.port': 1 }, env, file })
  assert.equal(config.http.port, 1)
  assert.deepEqual(origins.get('http.port'), { from: 'flag', where: '--http-port' })
  assert.equal(config.mqtt.port, 5)
  assert.deepEqual(origins.get('mqtt.port'), { from: 'environment', where: 'KYMO_MQTT_PORT' })
  assert.equal(config.http.host, 'localhost')
  assert.deepEqual(origins.get('http.host'), { from: 'file', where: 'kymo.yaml:3:9' })
  assert.equal(config.environment, 'production')
  assert.deepEqual(origins.get('environment'), { from: 'alias', where: 'ENVIRONMENT' })
  assert.deepEqual(origins.get('auth'), { from: 'default' })
  assert.equal(loadConfig({ env: { PORT: '6' } }).http.port, 6)
  assert.equal(loadConfig({ env: { PORT: '6' }, file }).http.port, 3)
  // What is not looked at need not be right.
  assert.equal(loadConfig({ env: { PORT: 'auto', KYMO_HTTP_PORT: '2' } }).http.port, 2)
  refusal(() => loadConfig({ env: { PORT: 'auto' } }))
})

test('all that is wrong in a file is named at once, with line, column and what was meant', async () => {
  const text = [
    '# a comment',
    'http:',
    '  prot: 8080',
    '  port: 99999',
    'store:',
    '  memory_mb: "512"',
    'retention: {raw: 90}',
    'htp: 1',
    'http: {}',
    'mqtt.port: 1884',
    'level: debug',
    'auth: tokn',
    'demo: 3',
    'payload: {aliases: yes}',
    'data_dir:',
    'devices:',
    '  ? [a]',
    '  : 1',
  ].join('\n')
  assert.deepEqual(await wrongs(text), [
    '3:3  unknown setting http.prot; did you mean port?',
    '4:9  http.port must be <= 65535',
    '6:14  store.memory_mb must be a whole number',
    "7:18  retention.raw must be text; put it in quotes: '90'",
    '8:1  unknown setting htp; did you mean http?',
    '9:1  http stands twice; before at kymo.yaml:2:1',
    '10:1  mqtt.port is written nested: mqtt: port',
    '11:1  unknown setting level; did you mean log.level?',
    '12:7  auth must be one of auto, token, open; did you mean token?',
    '13:7  demo is a group of settings',
    '14:20  payload.aliases must be true or false',
    '15:10  data_dir has no value',
    '17:5  the name of a setting is plain text',
  ])
})

test('the line is quoted with a mark below the place; a line that may hold a secret is not', async () => {
  const { errors } = await readConfigFile('http:\n  hoßt: "x"\nsession_key: [geheim]\nstore: {url: [postgres://u:geheim@h/d]}\n', 'k.yaml', noSecrets)
  assert.equal(errors[0]?.detail, 'unknown setting http.hoßt; did you mean host?\n     2 |   hoßt: "x"\n       |   ^^^^')
  assert.equal(errors.length, 3)
  assert.ok(!JSON.stringify(errors).includes('geheim'), JSON.stringify(errors))
})

test('tabs, syntax errors, anchors, aliases, tags, further documents and deep nesting are refused by place, and soon', async () => {
  assert.deepEqual(await wrongs('http:\n\tport: 1\n'), ['2:1  a tab in the indentation; YAML takes spaces only'])
  assert.match((await wrongs('http: {port: 1\n'))[0] ?? '', /^\d+:\d+ {2}/)
  assert.deepEqual(await wrongs('log: &a\n  level: info\n'), ['2:3  anchors are not taken here'])
  assert.deepEqual(await wrongs('data_dir: &a x\nauth: *a\n'), [
    '1:14  anchors are not taken here',
    '2:7  aliases are not taken here; write the value out',
  ])
  assert.equal((await wrongs('data_dir: !!js/function "x"\n')).length, 1)
  assert.equal((await wrongs('auth: open\n---\nauth: token\n')).length, 1)
  assert.equal((await wrongs('- 1\n- 2\n'))[0], '1:1  the file is a map of settings')
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${Array.from('bcdefgh')
    .map((c, i) => `${c}: &${c} [${`*${'abcdefgh'[i]},`.repeat(8)}]`)
    .join('\n')}\n`
  const from = performance.now()
  assert.ok((await wrongs(bomb)).length > 0)
  const nested = '['.repeat(20_000)
  assert.ok((await wrongs(`data_dir: ${nested}`)).length > 0)
  assert.ok(performance.now() - from < 5_000, `${performance.now() - from} ms`)
  assert.deepEqual(await wrongs(`# ${'x'.repeat(limits.configFileBytesMax)}`), [`kymo.yaml  is larger than ${limits.configFileBytesMax} bytes`])
  assert.deepEqual(await wrongs(''), [])
  assert.deepEqual(await wrongs('store:\n'), [])
})

test('every setting, written as YAML, comes back as it was', async () => {
  const leaves = configLeaves()
  for (const { name, schema } of leaves) {
    const value = schema.default
    const [first, ...rest] = name.split('.').toReversed()
    let text = `${first}: ${JSON.stringify(value)}`
    for (const part of rest) text = `${part}: {${text}}`
    const { values } = await fileOf(text)
    assert.deepEqual(
      [...values].map(([key, one]) => [key, one.value]),
      [[name, value]],
    )
  }
})

test('whatever the bytes are, reading a file ends in settings or in places within it', async () => {
  const words = fc.constantFrom(
    'http',
    'port',
    ': ',
    '\n',
    '  ',
    '8080',
    '"',
    "'",
    '{',
    '}',
    '[',
    ']',
    '&a',
    '*a',
    '!t',
    '# x',
    '- ',
    '? ',
    '|',
    '>',
    'retention',
    'raw',
    '90d',
    '---',
    '%',
    '\t',
  )
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(words, fc.string({ maxLength: 3 })), { maxLength: 24 }), async (parts) => {
      const text = parts.join('')
      const { settings, errors } = await readConfigFile(text, 'f', () => 's')
      const lines = text.split(/\r\n|\n|\r/).length
      for (const { pointer } of errors) {
        const [, line, column] = /^f:(\d+):(\d+)$/.exec(pointer) ?? []
        assert.ok(Number(line) >= 1 && Number(line) <= lines + 1 && Number(column) >= 1, `${pointer} in ${JSON.stringify(text)}`)
      }
      if (errors.length === 0) loadConfig({ file: settings })
    }),
    fuzzRuns(500),
  )
})

test('variables: all that is wrong at once; unknown ones with a suggestion; KYMO_TEST_ is left alone', () => {
  const error = refusal(() =>
    loadConfig({ env: { KYMO_HTTP_PROT: '1', KYMO_MQTT_PORT: 'x', KYMO_AUTH: 'nobody', KYMO_TEST_X: '1', KYMO_CONFIG: 'f' } }),
  )
  assert.deepEqual(error.details.errors, [
    { pointer: 'KYMO_HTTP_PROT', detail: 'unknown setting KYMO_HTTP_PROT in the environment; did you mean KYMO_HTTP_PORT?' },
    { pointer: 'mqtt.port', detail: '"x" must be a whole number (KYMO_MQTT_PORT)' },
    { pointer: 'auth', detail: 'must be one of auto, token, open (KYMO_AUTH)' },
  ])
})

test('a secret comes from a file, by the environment or by the configuration file; it is not shown, nor is the password of a URL', async () => {
  const readSecret = (file: string): string => `from ${file}`
  assert.equal(loadConfig({ env: { KYMO_SESSION_KEY_FILE: '/k' }, readSecret }).session_key, 'from /k')
  refusal(() => loadConfig({ env: { KYMO_SESSION_KEY_FILE: '/k', KYMO_SESSION_KEY: 'x' }, readSecret }))
  refusal(() => loadConfig({ env: { KYMO_HTTP_HOST_FILE: '/k' }, readSecret }))
  const { settings, errors } = await readConfigFile('session_key: {file: /k}\nauth: {file: /k}\n', 'f', readSecret)
  assert.equal(settings.values.get('session_key')?.value, 'from /k')
  assert.equal(errors.length, 1)
  const leaf = (name: string) => configLeaves().find((one) => one.name === name)!
  assert.equal(shown(leaf('session_key').schema, 'geheim'), '(secret)')
  assert.equal(shown(leaf('store.url').schema, 'postgres://u:geheim@h/d'), 'postgres://…@h/d')
})

test('production without a key is refused where a server starts, and nowhere else', () => {
  const config = loadConfig({ env: { ENVIRONMENT: 'production' } })
  assert.match(refusal(() => checkTogether(config)).message, /^production needs a key .*SECRET_KEY/)
  checkTogether(loadConfig({ env: { ENVIRONMENT: 'production', SECRET_KEY: 'k' } }))
  refusal(() => loadConfig({ env: { ENVIRONMENT: 'prodution' } }))
  refusal(() => checkTogether(loadConfig({ env: { KYMO_RETENTION_MINUTES: '30d', KYMO_RETENTION_RAW: '90d' } })))
})

/** INTERFACES A4: every variable that a seed names, and what must come of it here. */
const expected: readonly (readonly [env: Record<string, string>, setting: string | undefined, value: string | undefined])[] = [
  [{ MQTT_BROKER: 'broker' }, 'mqtt.pull.url', 'mqtt://broker:1883'],
  [{ MQTT_BROKER: 'broker', MQTT_PORT: '1884' }, 'mqtt.pull.url', 'mqtt://broker:1884'],
  [{ MQTT_BROKER: '::1' }, 'mqtt.pull.url', 'mqtt://[::1]:1883'],
  [{ MQTT_BROKER: 'mqtts://b:8883' }, 'mqtt.pull.url', 'mqtts://b:8883'],
  [{ MQTT_BROKER: 'b', MQTT_TOPIC: 'a/b' }, 'mqtt.pull.topics', 'a/b'],
  [{ POSTGRES_HOST: 'h' }, 'store.url', 'postgres://iot:iot_password@h:5432/iot_analytics'],
  [
    { POSTGRES_HOST: '::1', POSTGRES_PORT: '1', POSTGRES_DB: 'd/e', POSTGRES_USER: 'u', POSTGRES_PASSWORD: 'p@' },
    'meta.url',
    'postgres://u:p%40@[::1]:1/d%2Fe',
  ],
  [{ BATCH_SIZE: '200' }, 'store.commit_messages', '200'],
  [{ DYNAMODB_TABLE: 'devices', AWS_REGION: 'us-west-2' }, undefined, 'AWS_REGION,DYNAMODB_TABLE'],
  [{ KAFKA_BOOTSTRAP_SERVERS: 'k:9092,l' }, 'log.url', 'kafka://k:9092,l'],
  [{ KAFKA_BOOTSTRAP_SERVERS: 'k:9092', TELEMETRY_TOPIC: 't' }, 'kafka.pull.topics', 't'],
  [{ KAFKA_BOOTSTRAP_SERVERS: 'k:9092', DLQ_TOPIC: 'd' }, 'kafka.dead_letters.topic', 'd'],
  [{ KAFKA_BOOTSTRAP_SERVERS: 'k:9092', MAX_RETRIES: '4' }, 'store.max_retries', '4'],
  [{ MONGO_URL: 'mongodb://m', MONGO_DB: 'iotdb' }, undefined, 'MONGO_URL,MONGO_DB'],
  [{ TEMP_MIN_THRESHOLD: '-10', TEMP_MAX_THRESHOLD: '50' }, undefined, 'TEMP_MIN_THRESHOLD,TEMP_MAX_THRESHOLD'],
  [{ HUMIDITY_MIN_THRESHOLD: '0', HUMIDITY_MAX_THRESHOLD: '100' }, undefined, 'HUMIDITY_MIN_THRESHOLD,HUMIDITY_MAX_THRESHOLD'],
  [{ DATABASE_URL: 'postgres://d' }, undefined, 'DATABASE_URL'],
  [{ HEROKU_POSTGRESQL_PURPLE_URL: 'postgres://d' }, 'forecast.url', 'postgres://d'],
  [{ ENVIRONMENT: 'production' }, 'environment', 'production'],
  [{ SECRET_KEY: 'k' }, 'session_key', 'k'],
  [{ PORT: '5000' }, 'http.port', '5000'],
]

test('each variable of the seeds gives its setting, or is told as pending; one that counts beside another is nothing alone', () => {
  const seen = new Set<string>()
  for (const [env, setting, value] of expected) {
    for (const name of Object.keys(env)) seen.add(name)
    const { found, pending } = aliasesIn(env, () => true)
    if (setting === undefined) assert.deepEqual(pending.map(({ variable }) => variable).join(), value)
    else assert.equal(found.findLast((one) => one.setting === setting)?.text, value, setting)
    // A setting that this version does not have makes the variable pending: never silent.
    const without = aliasesIn(env, () => false)
    assert.equal(without.found.length, 0)
    assert.equal(without.pending.length, Object.keys(env).length)
  }
  for (const alias of aliases) {
    assert.ok(seen.has(alias.variable) || alias.readBy === 'simulate', `${alias.variable} is not tested`)
    if (alias.beside !== undefined)
      assert.deepEqual(
        aliasesIn({ [alias.variable]: 'x' }, () => true),
        { found: [], pending: [] },
        alias.variable,
      )
  }
  assert.deepEqual(
    aliasesIn({ DEVICE_COUNT: '3', INTERVAL: '1' }, () => true),
    { found: [], pending: [] },
  )
})

test('a changed configuration has the changes and nothing else', () => {
  const config = loadConfig()
  const changed = changedConfig(config, new Map([['http.port', 1]]))
  assert.deepEqual(changed, { ...config, http: { ...config.http, port: 1 } })
  assert.equal(valueOf(changed, 'http.port'), 1)
  assert.equal(valueOf(config, 'http.nothing'), undefined)
})
