// What the user decides about the next installation in place of the machine and the catalog.
import { get } from './api'
import { Ask } from './ask.svelte'
import type { InstallRequest, PlanView } from './types'

/** "numpy=1.26.3, peft=0.20" as a record; words without a version are returned apart. */
export function versionsIn(text: string): { versions: Record<string, string>; unclear: string[] } {
  const versions: Record<string, string> = {}
  const unclear: string[] = []
  for (const word of text.split(/[\s,]+/).filter(Boolean)) {
    const found = /^([a-z0-9._-]+)={1,2}([^=]+)$/i.exec(word)
    if (found) versions[found[1]!.toLowerCase()] = found[2]!
    else unclear.push(word)
  }
  return { versions, unclear }
}

export class Choice {
  accelerator = $state('auto')
  gpu = $state('')
  versions = $state('')
  large = $state(false)
  /** What an installation takes with this accelerator and GPU; without a choice the environment's own plan counts. */
  readonly plan = new Ask<PlanView>()

  /** Whether the machine is overruled. */
  get overrules(): boolean {
    return this.accelerator !== 'auto' || this.gpu !== ''
  }

  /** Asks what would be installed now. */
  look(): void {
    const query = new URLSearchParams({ accelerator: this.accelerator, ...(this.gpu === '' ? {} : { gpu: this.gpu }) })
    if (this.overrules) void this.plan.put((signal) => get<PlanView>(`/api/environment/plan?${query}`, signal))
    else this.plan.forget()
  }

  reset(): void {
    this.accelerator = 'auto'
    this.gpu = ''
    this.versions = ''
    this.large = false
  }

  /** What was decided, in a few words; "" where everything is left to Fettle. */
  get words(): string {
    const words = [
      this.accelerator === 'auto' ? '' : this.accelerator,
      this.gpu === '' ? '' : `GPU ${this.gpu}`,
      ...Object.entries(versionsIn(this.versions).versions).map(([name, version]) => `${name} ${version}`),
      this.large ? 'large builds accepted' : '',
    ]
    return words.filter(Boolean).join(', ')
  }

  request(large = false): InstallRequest {
    return {
      overrides: versionsIn(this.versions).versions,
      allow_large: large || this.large,
      accelerator: this.accelerator === 'auto' ? null : this.accelerator,
      gpu: this.gpu === '' ? null : Number(this.gpu),
    }
  }
}

export const choice = new Choice()
