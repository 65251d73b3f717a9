const PER_PAGE = 100
/** Bounds what a server can make us fetch. */
const MOST_PAGES = 1000

/** Everything of a list that the API hands out in pages. */
export async function allPages<T>(
  page: (query: { current_page: number; per_page: number }) => Promise<{ items: readonly T[]; total: number }>,
): Promise<T[]> {
  const all: T[] = []
  for (let current = 1; current <= MOST_PAGES; current++) {
    const { items, total } = await page({ current_page: current, per_page: PER_PAGE })
    all.push(...items)
    if (items.length === 0 || all.length >= total) break
  }
  return all
}
