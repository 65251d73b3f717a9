import type { PageQuery } from '@cyberun/api'

/** Where a page starts and how long it is, for `limit` and `offset`. */
export function pageBounds({ current_page, per_page }: PageQuery): { limit: number; offset: number } {
  return { limit: per_page, offset: (current_page - 1) * per_page }
}
