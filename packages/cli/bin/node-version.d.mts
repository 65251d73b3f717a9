export function chooseNode(found: {
  version: string
  pinned: string | undefined
}): { kind: 'here' } | { kind: 'other'; node: string } | { kind: 'refused'; message: string }
