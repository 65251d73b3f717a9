import type { Reporter, TestModule } from 'vitest/node'

/** Fails the run when a test was skipped although `CYBERUN_TEST_SKIPS=forbidden` says that none may be. */
export default class SkipReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const count = { passed: 0, failed: 0, skipped: 0 }
    const skipped: string[] = []
    for (const module of modules) {
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === 'passed') count.passed++
        else if (state === 'failed') count.failed++
        else {
          count.skipped++
          skipped.push(`${module.relativeModuleId}: ${test.fullName}`)
        }
      }
    }
    console.log(`tests: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
    if (skipped.length > 0 && process.env['CYBERUN_TEST_SKIPS'] === 'forbidden') {
      console.error(`skips are forbidden here, but these tests did not run:\n  ${skipped.join('\n  ')}`)
      process.exitCode = 1
    }
  }
}
