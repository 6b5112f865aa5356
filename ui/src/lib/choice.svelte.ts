// What the user decides about the next installation in place of the machine and the catalog.
import type { InstallRequest } from './types'

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
