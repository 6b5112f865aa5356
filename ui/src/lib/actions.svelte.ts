// The clicks that several places share, and the one place where their failure is shown.
import { asProblem, post } from './api'
import { checkup } from './checkup.svelte'
import { choice } from './choice.svelte'
import { said } from './generations'
import { link } from './router.svelte'
import { store } from './store.svelte'
import type { Environment, MergeRequest, Operation, Problem, Update } from './types'

class Actions {
  /** The newest action that failed before it became an operation; the banner at the top shows it. */
  failure = $state.raw<Problem | null>(null)
  /** What an action did otherwise than expected; gone with the next one. */
  notice = $state('')
  busy = $state<string | null>(null)

  /** Installs what was chosen; `large` accepts a build of several gigabytes for this once. */
  install(large = false): Promise<void> {
    return this.#attempt('install', async () => {
      location.hash = link('environment')
      store.adopt(await post<Operation>('/api/environment/install', choice.request(large)))
      checkup.forget()
    })
  }

  /** Builds an environment with the newer versions that a look for them found. */
  update(found: Update): Promise<void> {
    return this.#attempt('update', async () => {
      const { pinned, versions } = found
      store.adopt(await post<Operation>('/api/environment/update', { pinned, versions }))
      checkup.forget()
    })
  }

  /** Builds an environment again from its own lock; null stands for the active one. */
  repair(generation: string | null = null): Promise<void> {
    return this.#attempt('repair', async () => {
      location.hash = link('environment')
      // Whoever clicks has seen a failure: files that are as recorded are no reason not to build them again.
      store.adopt(await post<Operation>('/api/environment/repair', { generation, whole: true }))
      checkup.forget()
    })
  }

  /** Makes a kept generation the active one; null stands for the newest earlier one that is whole. */
  activate(generation: string | null): Promise<void> {
    return this.#attempt(`activate ${generation ?? ''}`, async () => {
      const expected = generation ?? store.environment?.previous
      const environment = await post<Environment>('/api/environment/rollback', { generation })
      store.apply({ type: 'environment', environment })
      checkup.forget()
      if (!expected || !environment.active || environment.active === expected) return
      this.notice = `Went back to ${said(environment, environment.active)}, because ${said(environment, expected)} turned out to be damaged.`
    })
  }

  /** Asks a run to write a checkpoint and end. */
  pause(run: string): Promise<void> {
    return this.#attempt(`pause ${run}`, async () => {
      store.adopt(await post<Operation>(`/api/runs/${encodeURIComponent(run)}/pause`))
    })
  }

  /** Lets a run go on from its newest checkpoint. */
  resume(run: string): Promise<void> {
    return this.#attempt(`resume ${run}`, async () => {
      store.adopt(await post<Operation>(`/api/runs/${encodeURIComponent(run)}/resume`))
    })
  }

  /** Merges a run's adapter into its model. */
  merge(run: string, request: MergeRequest): Promise<void> {
    return this.#attempt(`merge ${run}`, async () => {
      store.adopt(await post<Operation>(`/api/runs/${encodeURIComponent(run)}/merge`, request))
    })
  }

  /** Judges a run's adapter once more, on a file of rows or (null) its own held-out rows. */
  judge(run: string, data: string | null): Promise<void> {
    return this.#attempt(`judge ${run}`, async () => {
      store.adopt(await post<Operation>(`/api/runs/${encodeURIComponent(run)}/evaluate`, { data }))
    })
  }

  stop(operation: string): Promise<void> {
    return this.#attempt(`stop ${operation}`, async () => {
      await post<Operation>(`/api/operations/${encodeURIComponent(operation)}/stop`)
    })
  }

  async #attempt(name: string, action: () => Promise<void>): Promise<void> {
    if (this.busy) return
    this.busy = name
    this.failure = null
    this.notice = ''
    try {
      await action()
    } catch (error) {
      this.failure = asProblem(error)
    } finally {
      this.busy = null
    }
  }
}

export const actions = new Actions()
