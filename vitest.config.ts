import { defineConfig } from 'vitest/config'

/**
 * Two kinds of test files. `*.test.ts` run beside each other; `*.serial.test.ts` start real programs, compare rates or
 * watch a clock, so they run one file at a time once the others are done.
 */
const common = { testTimeout: 30_000, hookTimeout: 60_000, pool: 'forks' as const }

export default defineConfig({
  test: {
    reporters: ['default', './packages/testkit/src/skip-reporter.ts'],
    maxWorkers: 2,
    // Of the tests of one file that may run beside each other: they start a browser each.
    maxConcurrency: 2,
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: ['packages/*/test/**/*.test.ts'],
          exclude: ['**/*.serial.test.ts', '**/node_modules/**'],
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...common,
          name: 'serial',
          include: ['packages/*/test/**/*.serial.test.ts'],
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
