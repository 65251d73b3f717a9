import type { LinkStream } from '@cyberun/link'
import { encodeLine, StreamChannel } from '@cyberun/link'
import {
  type ArtifactAnswer,
  type ArtifactHeader,
  type ArtifactRefusal,
  FILE_LINE_BYTES,
  FieldError,
  parseArtifactHeader,
  StreamResetError,
  safeFileName,
} from '@cyberun/protocol'
import type { Attempt } from '../model/attempt.ts'
import { commitArtifact, findAttemptArtifact } from '../store/files.ts'
import type { FileContext } from './context.ts'
import { ObjectTooLargeError, type StagedObject, StorageFullError } from './object-store.ts'
import type { StreamAgent } from './types.ts'

/** A final no to the agent; everything else that goes wrong is a reset, which means: try again. */
class Refusal extends Error {
  readonly code: ArtifactRefusal

  constructor(code: ArtifactRefusal, message: string) {
    super(message)
    this.code = code
  }
}

/**
 * Takes one artifact (docs/protocol.md, "Files of a task"): its bytes go to the object store, and then one row with the
 * attempt's fence makes it visible. Resolves, never rejects, when the stream is over.
 */
export async function receiveArtifact(context: FileContext, stream: LinkStream, agent: StreamAgent): Promise<void> {
  const channel = new StreamChannel(stream)
  stream.accept()
  try {
    const answer = await receive(context, channel, agent).catch(refusalOf)
    await channel.write(encodeLine(answer))
    channel.end()
    // What the agent sent before it read a refusal.
    for await (const _dropped of channel.read());
    context.reach('artifact.answered')
  } catch (error) {
    if (error instanceof StreamResetError) return
    context.log.error({ agent_id: agent.agentId, team_id: agent.teamId, error }, 'files.artifact_failed')
    channel.reset('internal')
  }
}

async function receive(context: FileContext, channel: StreamChannel, agent: StreamAgent): Promise<ArtifactAnswer> {
  const { store, objects, limits, newId, reach } = context
  const header = await readHeader(channel)
  const attempt: Attempt = { ...agent, taskId: header.task_id, fence: header.fence }
  if (header.size > limits.maxArtifactBytes) {
    throw new Refusal('too_large', `an artifact may have ${limits.maxArtifactBytes} bytes at most`)
  }
  const known = await findAttemptArtifact(store, attempt, header.key)
  if (known === 'late') throw late()
  if (known?.sha256 === header.sha256) return { type: 'stored', artifact_id: known.id }
  reach('artifact.admitted')

  const objectKey = `out-${newId()}`
  const staged = await objects.write(objectKey, channel.read(header.size), { maxBytes: header.size })
  reach('artifact.staged')
  await checkBytes(staged, header)
  await staged.commit()
  reach('artifact.object_committed')
  return await makeVisible(context, attempt, header, objectKey)
}

/**
 * The row decides. When the store does not answer, its word may still have arrived, so the object stays: without a row
 * the sweep takes it.
 */
async function makeVisible(
  { store, objects, bus, log, newId, reach }: FileContext,
  attempt: Attempt,
  header: ArtifactHeader,
  objectKey: string,
): Promise<ArtifactAnswer> {
  const outcome = await commitArtifact(store, attempt, {
    artifactId: newId(),
    key: header.key,
    fileName: safeFileName(header.file_name),
    contentType: header.content_type,
    size: header.size,
    sha256: header.sha256,
    objectKey,
  })
  if (outcome.kind !== 'stored') await objects.delete(objectKey)
  switch (outcome.kind) {
    case 'stored':
      reach('artifact.row_committed')
      bus.publish('task.changed', { taskId: attempt.taskId })
      log.info(
        { task_id: attempt.taskId, agent_id: attempt.agentId, key: header.key, bytes: header.size },
        'files.artifact_stored',
      )
      return { type: 'stored', artifact_id: outcome.artifactId }
    case 'again':
      return { type: 'stored', artifact_id: outcome.artifactId }
    case 'conflict':
      throw new Refusal('invalid', `this attempt has another file under the key ${header.key}`)
    default:
      throw late()
  }
}

async function readHeader(channel: StreamChannel): Promise<ArtifactHeader> {
  let line: string | undefined
  try {
    line = await channel.readLine(FILE_LINE_BYTES)
  } catch (error) {
    if (error instanceof RangeError) throw new Refusal('invalid', error.message)
    throw error
  }
  if (line === undefined) throw new Refusal('invalid', 'the stream ended before its first line')
  return parseArtifactHeader(line)
}

async function checkBytes(staged: StagedObject, header: ArtifactHeader): Promise<void> {
  if (staged.size === header.size && staged.sha256 === header.sha256) return
  await staged.discard()
  if (staged.size !== header.size) {
    throw new Refusal('invalid', `${staged.size} of ${header.size} bytes came`)
  }
  throw new Refusal('hash_mismatch', `the bytes that came have the hash ${staged.sha256}`)
}

function refusalOf(error: unknown): ArtifactAnswer {
  if (error instanceof Refusal) return { type: 'refused', code: error.code, message: error.message }
  if (error instanceof FieldError) return { type: 'refused', code: 'invalid', message: error.message }
  if (error instanceof StorageFullError) return { type: 'refused', code: 'no_space', message: error.message }
  if (error instanceof ObjectTooLargeError) return { type: 'refused', code: 'too_large', message: error.message }
  throw error
}

function late(): Refusal {
  return new Refusal('late', 'this attempt is over; its files are not wanted any more')
}
