import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { Dataset, Model } from '../src/lib/types'
import { snapshot } from './records'

const model = (id: string, recommended: Record<string, unknown>): Model => ({ id, title: id, path: `/models/${id}`, about: '', recommended })
const dataset: Dataset = { id: 'd', title: 'D', about: '', train: '/d/train.jsonl', held_out: '/d/held.jsonl', example_prompt: '' }

const answer = {
  presets: { little: { about: 'Less.', changes: { 'lora.rank': 4 } } },
  defaults: { model: '', name: '', data: { train: '', held_out: null, max_length: 512 }, lora: { rank: 16 } },
  schema: {
    properties: {
      model: { type: 'string' },
      name: { type: 'string' },
      data: { title: 'Data', properties: { train: { type: 'string' }, held_out: { type: 'string' }, max_length: { type: 'integer' } } },
      lora: { title: 'Lora', properties: { rank: { type: 'integer', title: 'Rank', minimum: 1 } } },
    },
  },
}

const kept = new Map<string, string>()

async function open() {
  vi.resetModules()
  const { Draft } = await import('../src/lib/draft.svelte')
  const { store } = await import('../src/lib/store.svelte')
  store.apply({ ...snapshot(), models: [model('small', { 'lora.rank': 32 }), model('plain', {})], datasets: [dataset] })
  const draft = new Draft()
  await draft.load()
  return draft
}

beforeEach(() => {
  kept.clear()
  vi.stubGlobal('sessionStorage', {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => kept.set(key, value),
  })
  vi.stubGlobal('fetch', async () => Response.json(answer))
})

describe('the Train form', () => {
  it('is complete as it opens: first model, first data set, the settings that suit the model', async () => {
    const draft = await open()
    expect(draft.problem).toBeNull()
    expect(draft.spec()).toEqual({
      model: '/models/small',
      name: '',
      data: { train: '/d/train.jsonl', held_out: '/d/held.jsonl', max_length: 512 },
      lora: { rank: 32 },
    })
  })

  it('follows the model with settings nobody touched, and keeps those that somebody did', async () => {
    const draft = await open()
    draft.form.typed['data.max_length'] = '64'
    draft.form.model = 'plain'
    expect(draft.spec()).toMatchObject({ data: { max_length: 64 }, lora: { rank: 16 } })
  })

  it('does not ask a second time for what has a place of its own', async () => {
    expect((await open()).fields.map((field) => field.key)).toEqual(['data.max_length', 'lora.rank'])
  })

  it('says what is missing or wrong before anything is sent', async () => {
    const draft = await open()
    draft.form.typed['lora.rank'] = '0'
    expect(draft.problem).toBe('Rank: Not below 1.')
    draft.form.dataset = 'own'
    expect(draft.problem).toBe('Give the file with your training rows.')
    draft.form.model = 'own'
    expect(draft.problem).toBe('Give the folder of your model.')
  })

  it('takes own paths without the blanks and quotes around them, and no held-out file where none is given', async () => {
    const draft = await open()
    Object.assign(draft.form, { model: 'own', modelPath: ' /m ', dataset: 'own', trainPath: ' "/t.jsonl" ' })
    expect(draft.spec()).toMatchObject({ model: '/m', data: { train: '/t.jsonl', held_out: null } })
  })

  it('takes a preset whole, and knows when it no longer stands', async () => {
    const draft = await open()
    const [preset] = draft.presets
    draft.form.typed['data.max_length'] = '64'
    expect(draft.has(preset!)).toBe(false)
    draft.take(preset!)
    expect(draft.has(preset!)).toBe(true)
    expect(draft.spec()).toMatchObject({ data: { max_length: 512 }, lora: { rank: 4 } })
    draft.form.typed['lora.rank'] = '5'
    expect(draft.has(preset!)).toBe(false)
  })

  it('is found again after a reload', async () => {
    const before = await open()
    before.form.typed['lora.rank'] = '8'
    before.keep()
    expect((await open()).spec()).toMatchObject({ lora: { rank: 8 } })
  })
})
