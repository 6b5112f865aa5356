import { describe, expect, it } from 'vitest'
import { fields, flatten, idle, matching, nest, parse, shown, type Field, type SpecSchema } from '../src/lib/form'

const schema: SpecSchema = {
  $defs: {
    Lora: {
      title: 'Lora',
      properties: {
        rank: { type: 'integer', title: 'Rank', description: 'Higher: learns more.', level: 'basic', unit: '', minimum: 1, maximum: 1024 },
        dropout: { type: 'number', title: 'Dropout', level: 'advanced', minimum: 0, exclusiveMaximum: 1 },
      },
    },
    Training: {
      title: 'Training',
      properties: {
        max_steps: { anyOf: [{ type: 'integer', minimum: 1 }, { type: 'null' }], title: 'Most steps', level: 'advanced' },
        schedule: { type: 'string', enum: ['cosine', 'linear'], title: 'Schedule', level: 'advanced' },
        learning_rate: { type: 'number', title: 'Learning rate', level: 'basic', exclusiveMinimum: 0, maximum: 1 },
      },
    },
  },
  properties: {
    name: { type: 'string', title: 'Name', level: 'basic' },
    lora: { $ref: '#/$defs/Lora' },
    training: { allOf: [{ $ref: '#/$defs/Training' }] },
  },
}
const all = fields(schema)
const named = (key: string): Field => all.find((field) => field.key === key)!

describe('fields from the schema', () => {
  it('are addressed by dotted keys, in the order of the schema', () => {
    expect(all.map((field) => field.key)).toEqual([
      'name', 'lora.rank', 'lora.dropout', 'training.max_steps', 'training.schedule', 'training.learning_rate',
    ])
  })

  it('keep title, help, level and section', () => {
    expect(named('lora.rank')).toMatchObject({ title: 'Rank', help: 'Higher: learns more.', level: 'basic', section: 'Lora', kind: 'integer' })
  })

  it('know which may be empty, and the limits behind that', () => {
    expect(named('training.max_steps')).toMatchObject({ nullable: true, kind: 'integer', minimum: 1 })
  })

  it('offer the choices of an enumeration', () => {
    expect(named('training.schedule')).toMatchObject({ kind: 'choice', choices: ['cosine', 'linear'] })
  })
})

describe('what is typed', () => {
  it('becomes the value that it says, with a comma or a point', () => {
    expect(parse(named('training.learning_rate'), ' 5e-3 ')).toEqual({ value: 0.005 })
    expect(parse(named('training.learning_rate'), '0,5')).toEqual({ value: 0.5 })
  })

  it('is null where a setting may be left empty, and an error where it may not', () => {
    expect(parse(named('training.max_steps'), '')).toEqual({ value: null })
    expect(parse(named('lora.rank'), '')).toHaveProperty('error')
  })

  it('is refused outside the limits, which exclude what they say they exclude', () => {
    expect(parse(named('lora.rank'), '0')).toEqual({ error: 'Not below 1.' })
    expect(parse(named('lora.rank'), '1025')).toEqual({ error: 'Not above 1024.' })
    expect(parse(named('lora.dropout'), '1')).toEqual({ error: 'Must be below 1.' })
    expect(parse(named('training.learning_rate'), '0')).toEqual({ error: 'Must be above 0.' })
  })

  it('is refused where a whole number is needed', () => {
    expect(parse(named('lora.rank'), '8.5')).toEqual({ error: 'Enter a whole number.' })
    expect(parse(named('lora.rank'), 'many')).toEqual({ error: 'Enter a number.' })
  })
})

describe('dotted keys', () => {
  it('go to a nested record and back without a loss', () => {
    const tree = { name: '', lora: { rank: 16, dropout: 0 }, training: { max_steps: null } }
    expect(flatten(tree)).toEqual({ name: '', 'lora.rank': 16, 'lora.dropout': 0, 'training.max_steps': null })
    expect(nest(flatten(tree))).toEqual(tree)
  })

  it('show a default of a small rate as a person would write it', () => {
    expect(shown(2e-4)).toBe('0.0002')
    expect(shown(null)).toBe('')
  })
})

describe('finding a setting', () => {
  it('looks at name, key and help, and wants every word', () => {
    expect(matching(all, 'learn').map((field) => field.key)).toEqual(['lora.rank', 'training.learning_rate'])
    expect(matching(all, 'MOST steps').map((field) => field.key)).toEqual(['training.max_steps'])
    expect(matching(all, 'max steps').map((field) => field.key)).toEqual(['training.max_steps'])
    expect(matching(all, 'rank nowhere')).toEqual([])
  })
})

describe('a setting that does nothing on a device', () => {
  const gpu = { ...named('lora.rank'), actsOn: ['cuda'] }
  it('says so, and nothing where it acts or nobody knows', () => {
    expect(idle(gpu, 'cpu')).toBe('Does nothing on a CPU.')
    expect([idle(gpu, 'cuda'), idle(gpu, null), idle(named('lora.rank'), 'cpu')]).toEqual(['', '', ''])
  })
})
