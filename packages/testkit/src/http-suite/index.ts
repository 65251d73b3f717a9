import { aborts } from './groups/aborts.ts'
import { badAnswers } from './groups/bad-answers.ts'
import { connections, framings, sizes, trailers } from './groups/bodies.ts'
import { bulk } from './groups/bulk.ts'
import { answerFields, requestFields } from './groups/fields.ts'
import { bodiless, interim, methods, ranges, statuses } from './groups/messages.ts'
import { mutated } from './groups/mutations.ts'
import { random } from './groups/random.ts'
import { rewrittenFields } from './groups/rewriting.ts'
import { streaming } from './groups/streaming.ts'
import { targets } from './groups/targets.ts'
import { upgrades } from './groups/upgrades.ts'
import { runCases } from './run.ts'
import type { DoorFactory } from './visitor.ts'
import { runWebSocketSuite } from './websocket.ts'

export interface HttpSuiteOptions {
  /** MiB sent each way by the bulk cases. */
  bulkMebibytes: number
}

/**
 * Holds a way to a service against a direct connection to it: every case of the table, compared to the byte but for
 * what differences.ts lists. Call it at the top of a test file, once for each way.
 */
export function runHttpSuite(factory: DoorFactory, options: HttpSuiteOptions): void {
  runCases(factory, [
    ...[methods, statuses, bodiless, ranges, interim, targets, requestFields, answerFields, rewrittenFields],
    ...[
      sizes,
      framings,
      trailers,
      connections,
      streaming,
      aborts,
      upgrades,
      badAnswers,
      random,
      mutated,
      bulk(options.bulkMebibytes),
    ],
  ])
  runWebSocketSuite(factory)
}
