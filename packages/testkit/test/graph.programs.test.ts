import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '../../..')
const scratch = mkdtempSync(join(tmpdir(), 'cyberun-graph-'))
afterAll(() => rmSync(scratch, { recursive: true }))

/** Runs the same check as `npm run check:graph` on a tree. */
function checkGraph(cwd: string) {
  const script = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).scripts['check:graph'] as string
  return spawnSync('sh', ['-c', script], {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, PATH: `${root}/node_modules/.bin:${process.env['PATH']}` },
  })
}

test('the import graph is the one that ARCHITECTURE.md draws, and the check sees every source file', () => {
  const result = checkGraph(root)
  expect(result.stdout + result.stderr).toContain('no dependency violations found')
  const seen = Number(/\((\d+) modules/.exec(result.stdout)?.[1])
  const sources = globSync('{packages/*,bench}/src/**/*.ts', { cwd: root }).length
  expect(seen).toBeGreaterThanOrEqual(sources)
})

test.each([
  [
    'a cycle',
    'packages/protocol/src/a.ts',
    "import './b.ts'\n",
    'packages/protocol/src/b.ts',
    "import './a.ts'\n",
    'no-circle',
  ],
  [
    'an arrow up',
    'packages/link/src/a.ts',
    "import '@cyberun/agent'\n",
    'packages/agent/src/index.ts',
    '',
    'link-imports',
  ],
  [
    'I/O in protocol',
    'packages/protocol/src/a.ts',
    "import 'node:fs'\n",
    'packages/protocol/src/b.ts',
    '',
    'protocol-is-pure',
  ],
  [
    'the store asking control',
    'packages/server/src/store/a.ts',
    "import '../control/b.ts'\n",
    'packages/server/src/control/b.ts',
    '',
    'server-store-turns-back',
  ],
  [
    'SQL outside the store',
    'packages/server/src/agents/a.ts',
    "import 'kysely'\n",
    'packages/server/src/agents/b.ts',
    '',
    'sql-only-in-store',
  ],
])('a planted violation is found: %s', (_, file, text, other, otherText, rule) => {
  const tree = mkdtempSync(join(scratch, 'tree-'))
  execFileSync('git', ['init', '-q', tree])
  for (const name of ['package.json', '.dependency-cruiser.cjs']) cpSync(join(root, name), join(tree, name))
  mkdirSync(join(tree, 'bench'))
  for (const [path, content] of [
    [file, text],
    [other, otherText],
  ] as const) {
    mkdirSync(join(tree, path, '..'), { recursive: true })
    writeFileSync(join(tree, path), content)
  }
  mkdirSync(join(tree, 'node_modules/@cyberun'), { recursive: true })
  symlinkSync(join(root, 'node_modules/kysely'), join(tree, 'node_modules/kysely'))
  cpSync(join(root, 'packages/agent/package.json'), join(tree, 'packages/agent/package.json'))
  symlinkSync(join(tree, 'packages/agent'), join(tree, 'node_modules/@cyberun/agent'))

  const result = checkGraph(tree)

  expect(result.status).not.toBe(0)
  expect(result.stdout).toContain(rule)
})
