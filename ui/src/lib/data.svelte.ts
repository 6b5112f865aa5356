// What the Data page knows: the newest check of a data set, and how the chosen model will see its rows.
import { post } from './api'
import { Ask } from './ask.svelte'
import { Streamed } from './streamed.svelte'
import type { DataCheckRequest, DataFinding, DataLine, DataReport, Mended, PreviewLine, PreviewRequest, PreviewRow, PreviewStatistics } from './types'

export const ROWS_A_PAGE = 3
const FETCHED = 20 // rows at once, so that a page can be turned while all rows are still being counted

/** A check goes on while another page is shown, and is there again afterwards. */
export class DataCheck extends Streamed<DataLine> {
  asked = $state('')
  rows = $state.raw<unknown[]>([])
  findings = $state.raw<DataFinding[]>([])
  report = $state.raw<DataReport | null>(null)
  phase = $state('')
  share = $state<number | null>(null)
  readonly mended = new Ask<Mended>()

  /** Checks, unless just this was checked before. */
  async start(request: DataCheckRequest): Promise<void> {
    const asked = JSON.stringify(request)
    if (asked === this.asked) return
    this.asked = asked
    this.rows = []
    this.findings = []
    this.report = null
    this.phase = ''
    this.share = null
    this.mended.forget()
    await this.follow('/api/data/check', request, (line) => this.take(line))
  }

  take(line: DataLine): void {
    if (line.type === 'page') this.rows = line.rows
    else if (line.type === 'finding' && line.finding) this.findings = [...this.findings, line.finding]
    else if (line.type === 'done') this.report = line.report ?? null
    else if (line.type === 'progress') {
      this.phase = line.phase
      this.share = line.share ?? null
    }
  }

  /** Writes a mended copy beside the file that was checked. */
  async mend(): Promise<void> {
    await this.mended.put((signal) => post<Mended>('/api/data/mend', JSON.parse(this.asked), signal))
  }

  forget(): void {
    this.stop()
    this.asked = ''
  }
}

export type Asked = Pick<PreviewRequest, 'model' | 'data'>

/** The rows of a page come at once; what all rows come to follows, once for each choice of model and settings. */
export class DataPreview extends Streamed<PreviewLine> {
  asked = $state('')
  template = $state('')
  /** The rows that were fetched, and of those the page that is shown. */
  rows = $state.raw<PreviewRow[]>([])
  shown = $derived(this.rows.filter((row) => row.number >= this.first && row.number < this.first + ROWS_A_PAGE))
  statistics = $state.raw<PreviewStatistics | null>(null)
  phase = $state('')
  share = $state<number | null>(null)
  first = $state(1)
  #fresh = true

  /** Looks, unless just this is shown already. */
  async look(question: Asked, row?: number): Promise<void> {
    const asked = JSON.stringify(question)
    const first = row ?? (asked === this.asked ? this.first : 1)
    if (asked === this.asked && this.#has(first)) {
      this.first = first
      return
    }
    if (asked !== this.asked) {
      this.rows = []
      this.statistics = null
    }
    this.asked = asked
    this.first = first
    this.phase = ''
    this.#fresh = true
    const request = { ...question, first, rows: FETCHED, statistics: this.statistics === null }
    await this.follow('/api/data/preview', request, (line) => this.take(line))
  }

  /** Whether the page from this row on is here, or still on its way. */
  #has(first: number): boolean {
    if (first === this.first) return true
    const last = Math.min(first + ROWS_A_PAGE - 1, this.statistics?.rows ?? Infinity)
    return this.rows.some((row) => row.number === first) && this.rows.some((row) => row.number === last)
  }

  take(line: PreviewLine): void {
    if (line.type === 'template') this.template = line.text
    else if (line.type === 'row' && line.row) {
      this.rows = this.#fresh ? [line.row] : [...this.rows, line.row] // never empty in between: the pager stands on them
      this.#fresh = false
    } else if (line.type === 'statistics') this.statistics = line.statistics ?? null
    else if (line.type === 'progress') {
      this.phase = line.text
      this.share = line.share ?? null
    }
  }

  /** Shows nothing any more; the next look asks anew. */
  forget(): void {
    this.stop()
    this.asked = ''
    this.rows = []
    this.statistics = null
  }

  /** Ends what is still coming, as when its page is left; what is there stays. */
  leave(): void {
    if (this.stop()) this.asked = ''
  }
}

export const dataCheck = new DataCheck()
export const dataPreview = new DataPreview()

/** Where a finding is, as the doctor says it. */
export function place(finding: DataFinding): string {
  const where = finding.line ? `${finding.file}, line ${finding.line}` : finding.row ? `${finding.file}, row ${finding.row}` : finding.file
  return finding.column ? `${where}, column ${finding.column}` : where
}

/** Findings of a kind, in the order in which kinds were met. */
export function byKind(findings: DataFinding[]): DataFinding[][] {
  const kinds = new Map<string, DataFinding[]>()
  for (const finding of findings) kinds.set(finding.kind, [...(kinds.get(finding.kind) ?? []), finding])
  return [...kinds.values()]
}

/** Where a length lies among equally wide bins, from 0 to 1; null behind the last. */
export function position(edges: number[], length: number): number | null {
  const bin = edges.findIndex((edge, at) => edge <= length && length < (edges[at + 1] ?? edge))
  if (bin < 0) return null
  const [low, high] = [edges[bin]!, edges[bin + 1]!]
  return (bin + (length - low) / (high - low)) / (edges.length - 1)
}
