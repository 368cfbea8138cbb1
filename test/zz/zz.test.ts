import { describe, it } from 'node:test'
it('passes', () => undefined)
it('skips', { skip: 'no such tool' }, () => undefined)
describe('whole suite', { skip: 'suite reason' }, () => { it('inner', () => undefined) })
describe('d', () => { it('ok', () => undefined); it('skip at run', (t) => t.skip('later')) })
