import type { Page } from 'playwright-core'
import type { SystemProgram } from '../../src/programs.ts'
import type { RunningApplication } from '../../src/zoo/application.ts'

/** How a person comes to an application. */
export const DOORS = ['host', 'local', 'port', 'path', 'sandboxed path'] as const
export type DoorName = (typeof DOORS)[number]

/** One way through one door. */
export interface Visit {
  /** A browser that was never here, at the address that the person was given. */
  page: Page
  door: DoorName
  /** That address. */
  url: string
  /** Where the application runs: its home, and the folder it shows if it shows one. */
  directory: string
  /** The application's own port, for a look at it without the tunnel. */
  port: number
}

/** A real application, and what a person does with it: each step a line of docs/applications.md. */
export interface Application {
  /** As docs/applications.md has it. */
  name: string
  /** What the agent is to take it for, by what it answers alone. */
  profile: string
  programs: readonly SystemProgram[]
  /** Starts it in a folder of its own. */
  start(directory: string): Promise<RunningApplication>
  /** One after the other, in the page as the step before left it. */
  steps: Readonly<Record<string, (visit: Visit) => Promise<void>>>
}

/** The name of a file that a visitor through `door` makes, to be seen beside the application. */
export const fileOf = (door: DoorName): string => `from-the-${door.replaceAll(' ', '-')}-door`
