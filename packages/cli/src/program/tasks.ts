import { type Command, Option } from 'commander'
import type { RunOptions } from '../commands/run.ts'
import type { ListTasksOptions } from '../commands/tasks.ts'
import type { ImportOptions } from '../workflows/propose-import.ts'
import type { Act } from './act.ts'
import { integer, repeatable } from './arguments.ts'

const TASK_STATUSES = ['pending', 'waiting', 'queued', 'running', 'completed', 'failed', 'cancelled']

/** Workflows, and the runs of them. */
export function addTasks(program: Command, act: Act): void {
  program.commandsGroup('Run workflows:')
  program
    .command('run <slug>')
    .description('run a workflow, follow it, and save the files it makes; slug@version runs an older version')
    .addOption(repeatable('-p, --parameter <key=value>', 'a parameter of the workflow; may be given again'))
    .addOption(repeatable('-f, --file <key=path>', 'a file parameter: the file is uploaded; may be given again'))
    .option('--follow', 'stay until the task has ended (the default)')
    .addOption(new Option('--detach', 'print the id of the task and leave').conflicts('follow'))
    .option('-o, --output <folder>', 'where files are saved; nothing is overwritten', '.')
    .option('--priority <number>', '-10 to 10; higher goes first', integer(-10, 10))
    .action(
      act(async (context, slug: string, options: RunOptions) =>
        (await import('../commands/run.ts')).runWorkflow(context, slug, options),
      ),
    )
  const tasks = program.command('tasks').helpCommand(false).description('the runs of the team')
  tasks
    .command('list', { isDefault: true })
    .description('the newest tasks; what "tasks" alone does')
    .addOption(new Option('--status <status>', 'only those in this state').choices(TASK_STATUSES))
    .option('--limit <number>', '1 to 100', integer(1, 100), 20)
    .action(
      act(async (context, options: ListTasksOptions) =>
        (await import('../commands/tasks.ts')).listTasks(context, options),
      ),
    )
  tasks
    .command('show <task>')
    .description('one task: its state, what it waits for, what it made')
    .action(act(async (context, id: string) => (await import('../commands/tasks.ts')).showTask(context, id)))
  tasks
    .command('cancel <task>')
    .description('end a task; nothing happens to one that has ended')
    .action(act(async (context, id: string) => (await import('../commands/tasks.ts')).cancelTask(context, id)))
  tasks
    .command('events <task>')
    .description('everything that happened to a task, then what happens, until it ends')
    .option('--after <number>', 'only what came after this event', integer(0, Number.MAX_SAFE_INTEGER), 0)
    .option('-o, --output <folder>', 'save its files there when it is completed, as "run" does')
    .action(
      act(async (context, id: string, options: { after: number; output?: string }) =>
        (await import('../commands/tasks.ts')).followEvents(context, id, options),
      ),
    )
  tasks
    .command('files <task>')
    .description('save the files of a completed task')
    .option('-o, --output <folder>', 'where; nothing is overwritten', '.')
    .action(
      act(async (context, id: string, options: { output: string }) =>
        (await import('../commands/tasks.ts')).saveTaskFiles(context, id, options),
      ),
    )
  addWorkflows(program, act)
}

function addWorkflows(program: Command, act: Act): void {
  const workflows = program.command('workflows').helpCommand(false).description('what the team runs')
  workflows
    .command('import <file>')
    .description('import a ComfyUI graph in API format; parameters are proposed from its inputs')
    .option('--slug <slug>', "what it is called in commands (default: from the file's name)")
    .option('--name <name>', 'what it is called for people (default: the slug)')
    .addOption(repeatable('--label <label>', 'a label that an agent must have; may be given again'))
    .option('--yes', 'ask nothing')
    .action(
      act(async (context, file: string, options: ImportOptions & { yes?: true }) =>
        (await import('../commands/workflows.ts')).importWorkflow(context, file, options),
      ),
    )
  workflows
    .command('list', { isDefault: true })
    .description('the workflows of the team; what "workflows" alone does')
    .action(act(async (context) => (await import('../commands/workflows.ts')).listWorkflows(context)))
  workflows
    .command('show <slug>')
    .description('what a workflow is and what a run of it may be given')
    .action(
      act(async (context, slug: string) => (await import('../commands/workflows.ts')).showWorkflow(context, slug)),
    )
  workflows
    .command('delete <slug>')
    .description('delete a workflow with all its versions')
    .option('--yes', 'ask nothing')
    .action(
      act(async (context, slug: string, options: { yes?: true }) =>
        (await import('../commands/workflows.ts')).deleteWorkflow(context, slug, options),
      ),
    )
}
