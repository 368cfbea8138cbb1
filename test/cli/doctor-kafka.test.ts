import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { lagFindings, setupFindings } from '../../src/cli/doctor/kafka.ts'

const day = 86_400_000
const good = { name: 'kymo.telemetry', brokers: 3, partitions: 8, replicas: 3, inSync: 3, minInSync: 2, retentionMs: 30 * day }
const said = (findings: readonly { readonly status: string; readonly detail: string }[]): string[] =>
  findings.map(({ status, detail }) => `${status}: ${detail}`)

void describe('kymo doctor on a Kafka', () => {
  test('three copies, two of which have what is acknowledged, are well', () => {
    assert.deepEqual(said(setupFindings(good)), ['ok: 3 brokers; kymo.telemetry has 8 partitions, 3 of each'])
  })

  test('fewer copies, or an acknowledgement by one, are told with what to do', () => {
    const found = setupFindings({ ...good, brokers: 1, replicas: 1, inSync: 1, minInSync: 1 })
    assert.deepEqual(
      found.map(({ status }) => status),
      ['ok', 'warn', 'warn'],
    )
    assert.match(found[1]!.detail, /1 copy of each partition/)
    assert.match(found[1]!.fix!, /kafka\.replication to 3/)
    assert.match(found[2]!.fix!, /min\.insync\.replicas=2/)
    assert.match(setupFindings({ ...good, replicas: 2 })[1]!.detail, /2 copies/)
  })

  test('a topic that takes no writes fails', () => {
    const found = setupFindings({ ...good, inSync: 1 })
    assert.deepEqual([found[1]?.status, found[1]?.code], ['fail', 'log_unavailable'])
  })

  test('a consumer that is behind by half of what Kafka keeps is warned of, and one that lost records fails', () => {
    const nowUs = 1_800_000_000_000_000
    const lag = { partition: 2, earliest: 10n, committed: 20n, end: 30n, bytes: 1 }
    const behind = (days: number) => lagFindings('store', 30 * day, [{ ...lag, oldestUs: nowUs - days * day * 1000 }], nowUs)
    assert.equal(behind(14)[0]?.status, 'ok')
    assert.equal(behind(15)[0]?.status, 'warn')
    assert.match(behind(15)[0]!.detail, /10 records behind, the oldest 360 h old; Kafka keeps 30d/)
    assert.deepEqual(said(lagFindings('store', 30 * day, [{ ...lag, committed: 30n }], nowUs)), ['ok: group store: 0 records behind'])
    assert.deepEqual(said(lagFindings('store', -1, [{ ...lag, oldestUs: 1 }], nowUs)), ['ok: group store: 10 records behind'])
    const [lost] = lagFindings('store', 30 * day, [{ ...lag, committed: 5n }], nowUs)
    assert.deepEqual([lost?.status, lost?.code], ['fail', 'log_corrupt'])
    assert.match(lost!.detail, /partition 2 to 5, and Kafka has deleted up to 10/)
  })
})
