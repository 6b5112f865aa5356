// The Train form, read off the JSON schema of RunSpec: one field a setting, addressed by its dotted key.
import type { RunSpec } from './types'

export type Value = string | number | boolean | null
export type Values = Record<string, Value>

export type Level = 'basic' | 'advanced' | 'expert'

export interface Field {
  key: string
  section: string
  title: string
  help: string
  unit: string
  level: Level
  /** Devices on which it does anything; a change is refused elsewhere. */
  actsOn: string[]
  kind: 'text' | 'integer' | 'number' | 'boolean' | 'choice'
  choices: string[]
  nullable: boolean
  minimum?: number
  maximum?: number
  above?: number
  below?: number
}

interface Node {
  $ref?: string
  $defs?: Record<string, Node>
  allOf?: Node[]
  anyOf?: Node[]
  properties?: Record<string, Node>
  type?: string
  enum?: string[]
  title?: string
  description?: string
  unit?: string
  level?: Level
  acts_on?: string[]
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  exclusiveMaximum?: number
}

export type SpecSchema = Node

/** Every setting of the schema in its own order; sections become the first part of the key. */
export function fields(schema: SpecSchema): Field[] {
  return collect(schema, schema.$defs ?? {}, '', 'Base model')
}

function collect(node: Node, defs: Record<string, Node>, prefix: string, section: string): Field[] {
  return Object.entries(node.properties ?? {}).flatMap(([name, child]) => {
    const target = resolve(child, defs)
    const key = prefix + name
    if (target.properties) return collect(target, defs, `${key}.`, child.title ?? target.title ?? name)
    return [field(key, section, target)]
  })
}

function resolve(node: Node, defs: Record<string, Node>): Node {
  const reference = node.$ref ?? node.allOf?.[0]?.$ref
  return reference ? (defs[reference.replace('#/$defs/', '')] ?? node) : node
}

function field(key: string, section: string, node: Node): Field {
  const variants = node.anyOf ?? [node]
  const real = { ...node, ...variants.find((variant) => variant.type !== 'null') }
  return {
    key,
    section,
    title: node.title ?? key,
    help: node.description ?? '',
    unit: node.unit ?? '',
    level: node.level ?? 'advanced',
    actsOn: node.acts_on ?? [],
    kind: real.enum ? 'choice' : kindOf(real.type),
    choices: real.enum ?? [],
    nullable: variants.some((variant) => variant.type === 'null'),
    minimum: real.minimum,
    maximum: real.maximum,
    above: real.exclusiveMinimum,
    below: real.exclusiveMaximum,
  }
}

function kindOf(type: string | undefined): Field['kind'] {
  if (type === 'integer' || type === 'number' || type === 'boolean') return type
  return 'text'
}

/** The settings that a person means by these words: each is in the name, the key, the section or the help. */
export function matching(all: Field[], typed: string): Field[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean)
  return all.filter((field) => {
    const text = `${field.title} ${field.key.replaceAll('_', ' ')} ${field.key} ${field.section} ${field.help}`.toLowerCase()
    return words.every((word) => text.includes(word))
  })
}

/** Why a setting cannot act on a device; "" where it can, or where the device is not known yet. */
export function idle(field: Field, device: string | null): string {
  if (!device || field.actsOn.length === 0 || field.actsOn.includes(device)) return ''
  return `Does nothing on ${DEVICES[device] ?? device}.`
}

const DEVICES: Record<string, string> = { cpu: 'a CPU', cuda: 'an NVIDIA GPU', mps: 'an Apple GPU' }

/** The leaves of a nested record by dotted key. */
export function flatten(tree: object, prefix = ''): Values {
  return Object.entries(tree).reduce<Values>((flat, [name, value]) => {
    if (value !== null && typeof value === 'object') return { ...flat, ...flatten(value, `${prefix}${name}.`) }
    return { ...flat, [prefix + name]: value as Value }
  }, {})
}

/** The spec that these dotted values stand for. */
export function nest(values: Values): RunSpec {
  const tree: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(values)) {
    const path = key.split('.')
    const last = path.pop()!
    let section = tree
    for (const part of path) section = (section[part] ??= {}) as Record<string, unknown>
    section[last] = value
  }
  return tree as unknown as RunSpec
}

/** What was typed as the setting's value, or why it cannot be one. */
export function parse(field: Field, typed: string): { value: Value } | { error: string } {
  const text = typed.trim()
  if (text === '' && field.nullable) return { value: null }
  if (field.kind !== 'integer' && field.kind !== 'number') return { value: text }
  const number = Number(text.replace(',', '.'))
  if (text === '' || !Number.isFinite(number)) return { error: 'Enter a number.' }
  if (field.kind === 'integer' && !Number.isInteger(number)) return { error: 'Enter a whole number.' }
  const bound = outside(field, number)
  return bound ? { error: bound } : { value: number }
}

function outside(field: Field, number: number): string | null {
  if (field.minimum !== undefined && number < field.minimum) return `Not below ${field.minimum}.`
  if (field.above !== undefined && number <= field.above) return `Must be above ${field.above}.`
  if (field.maximum !== undefined && number > field.maximum) return `Not above ${field.maximum}.`
  if (field.below !== undefined && number >= field.below) return `Must be below ${field.below}.`
  return null
}

export function shown(value: Value | undefined): string {
  return value === null || value === undefined ? '' : String(value)
}
