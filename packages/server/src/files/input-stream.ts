import { encodeLine, type LinkStream, StreamChannel } from '@cyberun/link'
import {
  FILE_LINE_BYTES,
  FieldError,
  type InputAnswer,
  type InputRefusal,
  type InputRequest,
  parseInputRequest,
  StreamResetError,
} from '@cyberun/protocol'
import { attemptMayReadInput } from '../store/files.ts'
import type { FileContext } from './context.ts'
import type { StreamAgent } from './types.ts'

/**
 * Sends one input to the agent that holds an attempt whose task names it (docs/protocol.md, "Files of a task").
 * Resolves, never rejects, when the stream is over.
 */
export async function sendInput(context: FileContext, stream: LinkStream, agent: StreamAgent): Promise<void> {
  const channel = new StreamChannel(stream)
  stream.accept()
  try {
    const request = await readRequest(channel)
    if ('type' in request) await channel.write(encodeLine(request))
    else await send(context, channel, request, agent)
    channel.end()
    // What the agent sent beyond its request: nobody else would let go of it.
    for await (const _dropped of channel.read());
  } catch (error) {
    if (error instanceof StreamResetError) return
    context.log.error({ agent_id: agent.agentId, team_id: agent.teamId, error }, 'files.input_failed')
    channel.reset('internal')
  }
}

async function send(
  { store, objects }: FileContext,
  channel: StreamChannel,
  request: InputRequest,
  agent: StreamAgent,
): Promise<void> {
  const attempt = { ...agent, taskId: request.task_id, fence: request.fence }
  const input = await attemptMayReadInput(store, attempt, request.file_key)
  if (input === 'late') {
    await channel.write(encodeLine(refused('late', 'this attempt is over')))
    return
  }
  const bytes = input?.objectKey != null ? await objects.read(input.objectKey) : undefined
  if (!input || !bytes || input.sha256 === null) {
    await channel.write(encodeLine(refused('not_found', 'this task has no such file')))
    return
  }
  const { fileName, contentType, size, sha256 } = input
  const answer: InputAnswer = { type: 'file', file_name: fileName, content_type: contentType, size, sha256 }
  for await (const piece of withFirst(encodeLine(answer), bytes)) await channel.write(piece)
}

/** Asks for a piece before it tells `first`: what is open behind the pieces is closed only when somebody has asked. */
async function* withFirst(first: Uint8Array, pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let isTold = false
  for await (const piece of pieces) {
    if (!isTold) yield first
    isTold = true
    yield Uint8Array.from(piece)
  }
  if (!isTold) yield first
}

async function readRequest(channel: StreamChannel): Promise<InputRequest | InputAnswer> {
  try {
    const line = await channel.readLine(FILE_LINE_BYTES)
    return line === undefined ? refused('invalid', 'the stream ended before its first line') : parseInputRequest(line)
  } catch (error) {
    if (error instanceof RangeError || error instanceof FieldError) return refused('invalid', error.message)
    throw error
  }
}

function refused(code: InputRefusal, message: string): InputAnswer {
  return { type: 'refused', code, message }
}
