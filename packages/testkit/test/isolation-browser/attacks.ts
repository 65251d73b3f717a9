import { ATTACKS_BY_LEAKS } from './attacks-by-leaks.ts'
import { ATTACKS_ON_API } from './attacks-on-api.ts'
import { ATTACKS_ON_PAGES } from './attacks-on-pages.ts'
import { ATTACKS_ON_STATE, LAST_ATTACK } from './attacks-on-state.ts'

export const ATTACKS = [
  ...[...ATTACKS_ON_API, ...ATTACKS_ON_PAGES, ...ATTACKS_ON_STATE, ...ATTACKS_BY_LEAKS],
  LAST_ATTACK,
]
