import { beforeEach, describe, expect, it, vi } from 'vitest'
import { byKind, DataCheck, DataPreview, place, position } from '../src/lib/data.svelte'
import type { DataFinding, PreviewLine, RunSpec } from '../src/lib/types'

const finding = (kind: string, where: Partial<DataFinding> = {}): DataFinding => ({
  kind, weight: 'error', file: 'a.jsonl', row: 3, line: 3, column: null, field: '', found: '', detail: '', meaning: '', fix: '', ...where,
})
const row = (number: number) => ({ number, place: '', trained: 1, context: 0, cut: 0, texts: [], findings: [] })
const data = { train: '/t.jsonl' } as RunSpec['data']
const statistics = { rows: 9 } as NonNullable<PreviewLine['statistics']>

let asked: { path: string; body: Record<string, unknown> }[] = []
let answers: object[][] = []

beforeEach(() => {
  asked = []
  vi.stubGlobal('fetch', async (path: string, options: RequestInit) => {
    asked.push({ path, body: JSON.parse(String(options.body)) })
    return new Response((answers.shift() ?? []).map((line) => `${JSON.stringify(line)}\n`).join(''))
  })
})

describe('a check of data', () => {
  it('keeps rows, findings and report, and is not made a second time for the same question', async () => {
    const check = new DataCheck()
    answers = [[{ type: 'page', rows: [1] }, { type: 'finding', finding: finding('a') }, { type: 'done', report: { rows: 1 } }]]
    await check.start({ train: '/t', format: 'auto', columns: '' })
    await check.start({ train: '/t', format: 'auto', columns: '' })
    expect(asked).toHaveLength(1)
    expect([check.rows, check.findings.length, check.report?.rows, check.running]).toEqual([[1], 1, 1, false])
  })

  it('shows why it failed, also when the answer breaks off', async () => {
    const check = new DataCheck()
    answers = [[{ type: 'failed', problem: { code: 'data-missing', message: 'm', remedy: 'r' } }], [{ type: 'page', rows: [] }]]
    await check.start({ train: '/none', format: 'auto', columns: '' })
    expect(check.problem?.code).toBe('data-missing')
    await check.start({ train: '/other', format: 'auto', columns: '' })
    expect(check.problem?.message).toBe('The answer broke off.')
  })
})

describe('a preview', () => {
  it('asks for the whole set once, and for rows alone when a page is turned beyond those that are here', async () => {
    const preview = new DataPreview()
    const whole = [{ type: 'template', text: 't' }, ...[1, 2, 3, 4, 5, 6].map((n) => ({ type: 'row', row: row(n) })), { type: 'statistics', statistics }, { type: 'done' }]
    answers = [whole, [{ type: 'template', text: 't' }, { type: 'row', row: row(7) }, { type: 'done' }], whole]
    await preview.look({ model: 'm', data })
    await preview.look({ model: 'm', data }, 4)
    expect(preview.shown.map((shown) => shown.number)).toEqual([4, 5, 6])
    await preview.look({ model: 'm', data }, 7)
    expect(asked.map(({ body }) => [body['first'], body['statistics']])).toEqual([[1, true], [7, false]])
    expect(preview.shown.map((shown) => shown.number)).toEqual([7])
    expect(preview.statistics?.rows).toBe(9)
    await preview.look({ model: 'other', data })
    expect(asked[2]!.body).toMatchObject({ model: 'other', first: 1, statistics: true })
  })

  it('that was left in the middle is asked for again', async () => {
    const preview = new DataPreview()
    answers = [[{ type: 'done' }], [{ type: 'done' }]]
    const open = preview.look({ model: 'm', data })
    preview.leave()
    await open
    expect(preview.problem).toBeNull()
    await preview.look({ model: 'm', data })
    expect(asked).toHaveLength(2)
    preview.leave()
    await preview.look({ model: 'm', data })
    expect(asked).toHaveLength(2)
  })
})

describe('places', () => {
  it('are said as the doctor says them', () => {
    expect(place(finding('a', { column: 7 }))).toBe('a.jsonl, line 3, column 7')
    expect(place(finding('a', { line: null }))).toBe('a.jsonl, row 3')
    expect(place(finding('a', { line: null, row: 0 }))).toBe('a.jsonl')
  })

  it('of one kind stay together', () => {
    expect(byKind([finding('a'), finding('b'), finding('a')]).map((kind) => [kind[0]!.kind, kind.length])).toEqual([['a', 2], ['b', 1]])
  })
})

describe('the cut in a histogram', () => {
  it('lies between the edges of its bin, and nowhere behind the last', () => {
    expect(position([0, 10, 20], 5)).toBe(0.25)
    expect(position([0, 10, 20], 10)).toBe(0.5)
    expect(position([0, 4, 8, 16], 12)).toBeCloseTo(2.5 / 3)
    expect(position([0, 10, 20], 20)).toBeNull()
  })
})
