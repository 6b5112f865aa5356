// Which page is shown: the part of the address after `#`, so that a reload and "back" just work.

export const PAGES = ['environment', 'data', 'train', 'runs', 'chat'] as const
export type Page = (typeof PAGES)[number]

class Router {
  #hash = $state(location.hash)

  constructor() {
    window.addEventListener('hashchange', () => (this.#hash = location.hash))
  }

  /** The page, and the id behind it as in `#/runs/<id>`. */
  get route(): { page: Page; id: string | null } {
    const [, name, id] = this.#hash.replace(/^#/, '').split('/')
    const page = PAGES.find((known) => known === name) ?? 'environment'
    return { page, id: id ? decodeURIComponent(id) : null }
  }

  go(page: Page, id?: string): void {
    location.hash = link(page, id)
  }
}

export function link(page: Page, id?: string): string {
  return `#/${page}${id ? `/${encodeURIComponent(id)}` : ''}`
}

export const router = new Router()
