import { defineConfig } from 'vitest/config'

/**
 * Three kinds of test files, one after the other. `*.test.ts` run beside each other. `*.programs.test.ts` start real
 * programs and browsers, and wait for them for longer. `*.serial.test.ts` compare rates or watch a clock, so they run one
 * file at a time.
 */
const common = {
  testTimeout: 30_000,
  hookTimeout: 60_000,
  pool: 'forks' as const,
  expect: { poll: { interval: 20, timeout: 20_000 } },
}
const withPrograms = {
  ...common,
  testTimeout: 300_000,
  hookTimeout: 120_000,
  expect: { poll: { interval: 20, timeout: 60_000 } },
}

export default defineConfig({
  test: {
    reporters: ['default', './packages/testkit/src/skip-reporter.ts'],
    maxWorkers: 2,
    // Of the concurrent tests of one file: they start a browser each.
    maxConcurrency: 2,
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: ['packages/*/test/**/*.test.ts'],
          exclude: ['**/*.{programs,serial}.test.ts', '**/node_modules/**'],
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...withPrograms,
          name: 'programs',
          include: ['packages/*/test/**/*.programs.test.ts'],
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...withPrograms,
          name: 'serial',
          include: ['packages/*/test/**/*.serial.test.ts'],
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
