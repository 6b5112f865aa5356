// The half-filled Train form: kept for this tab, so that a reload or a look at another page loses nothing.
import { get } from './api'
import { fields, flatten, nest, parse, shown, type Field, type SpecSchema, type Value, type Values } from './form'
import { store } from './store.svelte'
import type { RunSpec } from './types'

export const OWN = 'own'

export interface Preset {
  name: string
  about: string
  changes: Values
}

/** Settings that the page asks for in its own way, not as a generated field. */
const ASKED_APART = ['model', 'data.train', 'data.held_out', 'name']
const KEPT = 'fettle-draft'

interface Kept {
  model: string
  dataset: string
  modelPath: string
  trainPath: string
  heldOutPath: string
  name: string
  typed: Record<string, string | boolean>
  advanced: boolean
}

const empty: Kept = { model: '', dataset: '', modelPath: '', trainPath: '', heldOutPath: '', name: '', typed: {}, advanced: false }

export class Draft {
  form = $state<Kept>({ ...empty, ...restore() })
  fields = $state.raw<Field[]>([])
  defaults = $state.raw<Values>({})
  presets = $state.raw<Preset[]>([])

  modelId = $derived(this.form.model || store.snapshot?.models[0]?.id || OWN)
  datasetId = $derived(this.form.dataset || store.snapshot?.datasets[0]?.id || OWN)
  model = $derived(store.snapshot?.models.find((model) => model.id === this.modelId))
  dataset = $derived(store.snapshot?.datasets.find((dataset) => dataset.id === this.datasetId))
  /** What a setting is while nobody has touched it: its default, or what suits the chosen model. */
  suggested = $derived<Values>({ ...this.defaults, ...(this.model?.recommended as Values | undefined) })
  errors = $derived(this.#errors())
  problem = $derived(this.#missing())

  async load(): Promise<void> {
    if (this.fields.length > 0) return
    const answer = await get<{ defaults: RunSpec; schema: SpecSchema; presets?: Record<string, Omit<Preset, 'name'>> }>('/api/spec')
    this.defaults = flatten(answer.defaults)
    this.presets = Object.entries(answer.presets ?? {}).map(([name, preset]) => ({ name, ...preset }))
    this.fields = fields(answer.schema).filter((field) => !ASKED_APART.includes(field.key))
  }

  keep(): void {
    sessionStorage.setItem(KEPT, JSON.stringify(this.form))
  }

  /** What stands in a field: what was typed, else the suggestion. */
  text(key: string): string {
    const typed = this.form.typed[key]
    return typed === undefined ? shown(this.suggested[key]) : String(typed)
  }

  /** Whether every setting of the preset stands in the form, typed or suggested. */
  has(preset: Preset): boolean {
    return Object.entries(preset.changes).every(([key, value]) => (typeof value === 'boolean' ? this.isOn(key) === value : this.text(key) === shown(value)))
  }

  /** Takes a preset in place of what was typed; settings that it does not name go back to their suggestions. */
  take(preset: Preset): void {
    this.form.typed = Object.fromEntries(Object.entries(preset.changes).map(([key, value]) => [key, typeof value === 'boolean' ? value : shown(value)]))
  }

  isOn(key: string): boolean {
    const typed = this.form.typed[key]
    return typed === undefined ? this.suggested[key] === true : typed === true
  }

  spec(): RunSpec {
    const values: Values = { ...this.suggested }
    for (const field of this.fields) if (field.key in this.form.typed) values[field.key] = this.#value(field)
    values['model'] = this.model?.path ?? path(this.form.modelPath)
    values['data.train'] = this.dataset?.train ?? path(this.form.trainPath)
    values['data.held_out'] = this.dataset ? this.dataset.held_out : path(this.form.heldOutPath) || null
    values['name'] = this.form.name.trim()
    return nest(values)
  }

  #value(field: Field): Value {
    if (field.kind === 'boolean') return this.isOn(field.key)
    const parsed = parse(field, this.text(field.key))
    return 'value' in parsed ? parsed.value : null
  }

  #errors(): Record<string, string> {
    const found: Record<string, string> = {}
    for (const field of this.fields) {
      if (field.kind === 'boolean') continue
      const parsed = parse(field, this.text(field.key))
      if ('error' in parsed) found[field.key] = parsed.error
    }
    return found
  }

  /** What still keeps the form from being sent; null when it is complete. */
  #missing(): string | null {
    if (!this.model && !this.form.modelPath.trim()) return 'Give the folder of your model.'
    if (!this.dataset && !this.form.trainPath.trim()) return 'Give the file with your training rows.'
    const wrong = this.fields.find((field) => this.errors[field.key])
    return wrong ? `${wrong.title}: ${this.errors[wrong.key]}` : null
  }
}

/** What was pasted as a path: without blanks, and without the quotes that file managers put around it. */
function path(text: string): string {
  return text.trim().replace(/^(['"])(.*)\1$/, '$2')
}

function restore(): Partial<Kept> {
  const kept = sessionStorage.getItem(KEPT)
  return kept ? (JSON.parse(kept) as Partial<Kept>) : {}
}

export const draft = new Draft()
