import { describe, expect, it, vi, afterEach } from 'vitest'
import { get } from '../src/lib/api'
import { Ask } from '../src/lib/ask.svelte'
import { Choice, versionsIn } from '../src/lib/choice.svelte'
import { changes, told, wayBack } from '../src/lib/generations'
import type { Environment, Generation } from '../src/lib/types'
import { environment } from './records'

afterEach(() => vi.unstubAllGlobals())

const named = (id: string, name = '') => ({ id, name }) as Generation
const three: Environment = { ...environment, active: 'g3', previous: 'g1', generations: [named('g1', 'the first'), named('g2'), named('g3')] }

describe('where a rollback leads', () => {
  it('is said with the name that the user gave', () => {
    expect(wayBack(three)).toBe('Roll back leads to “the first”, which was active before this one.')
  })

  it('names what is passed over', () => {
    const sentence = wayBack({ ...three, passed_over: ['g2'] })
    expect(sentence).toContain('the newest earlier one that is whole; g2 is passed over as damaged')
  })

  it('is nothing where there is no earlier one', () => {
    expect(wayBack({ ...three, previous: null })).toBe('')
  })
})

it('tells each event of the history, also of what is gone', () => {
  const row = (action: string, before: string | null = null) => told({ time: 1, action, generation: 'g1', before }, three)
  expect(row('install')).toBe('Installed “the first”, the first one')
  expect(row('rollback', 'g2')).toBe('Went back to “the first” from g2')
  expect(row('repair', 'g9')).toBe('Built “the first” in place of g9')
  expect(row('delete')).toBe('Deleted “the first”')
})

it('lists changed packages before added and removed ones', () => {
  const found = changes({ added: { new: '1' }, removed: { old: '2' }, changed: [{ name: 'numpy', before: '1', after: '2' }] })
  expect(found.map((each) => [each.kind, each.name, each.text])).toEqual([
    ['changed', 'numpy', '1 → 2'],
    ['added', 'new', '1'],
    ['removed', 'old', '2'],
  ])
})

describe('what the user decides about an installation', () => {
  it('leaves everything to Fettle at first', () => {
    expect(new Choice().request()).toEqual({ overrides: {}, allow_large: false, accelerator: null, gpu: null })
    expect(new Choice().words).toBe('')
  })

  it('is sent as the command line sends it', () => {
    const choice = new Choice()
    Object.assign(choice, { accelerator: 'cu126', gpu: '1', versions: 'Peft==0.20, rich=14.1.0' })
    expect(choice.request(true)).toEqual({
      overrides: { peft: '0.20', rich: '14.1.0' }, allow_large: true, accelerator: 'cu126', gpu: 1,
    })
    expect(choice.words).toBe('cu126, GPU 1, peft 0.20, rich 14.1.0')
  })

  it('asks what would be installed only where the machine is overruled', async () => {
    const asked: string[] = []
    vi.stubGlobal('fetch', async (path: string) => (asked.push(path), Response.json({ plan: [] })))
    const choice = new Choice()
    choice.look()
    choice.accelerator = 'cu126'
    choice.gpu = '1'
    choice.look()
    await vi.waitFor(() => expect(choice.plan.answer).toEqual({ plan: [] }))
    choice.reset()
    choice.look()
    expect(choice.plan.answer).toBeNull()
    expect(asked).toEqual(['/api/environment/plan?accelerator=cu126&gpu=1'])
  })

  it('points out what is no version', () => {
    expect(versionsIn('peft rich=14 =3')).toEqual({ versions: { rich: '14' }, unclear: ['peft', '=3'] })
  })
})

describe('a question', () => {
  it('that was taken back is answered by nobody and no failure', async () => {
    let aborted = false
    vi.stubGlobal('fetch', (_: string, { signal }: { signal: AbortSignal }) =>
      new Promise((_, refuse) => signal.addEventListener('abort', () => ((aborted = true), refuse(signal.reason)))),
    )
    const ask = new Ask<unknown>()
    const answer = ask.put((signal) => get('/api/x', signal))
    expect(ask.running).toBe(true)
    ask.stop()
    expect(await answer).toBeNull()
    expect([aborted, ask.running, ask.failure]).toEqual([true, false, null])
  })

  it('that is newer wins, however late the older answer comes', async () => {
    const ask = new Ask<string>()
    let late!: (text: string) => void
    const older = ask.put(() => new Promise<string>((resolve) => (late = resolve)))
    expect(await ask.put(async () => 'new')).toBe('new')
    late('old')
    expect(await older).toBeNull()
    expect([ask.answer, ask.running]).toEqual(['new', false])
  })
})
