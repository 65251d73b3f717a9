import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { acceptLink, dialLink, encodeLine, type Link, type LinkStream, lineEvents, StreamChannel } from '@cyberun/link'
import {
  type AgentTaskLine,
  type ArtifactAnswer,
  type ArtifactHeader,
  type AssignLine,
  FILE_LINE_BYTES,
  type InputAnswer,
  type InputRequest,
  parseAgentTaskLine,
  parseArtifactHeader,
  parseInputRequest,
  type ServerTaskLine,
  StreamResetError,
  TASK_LIMITS,
} from '@cyberun/protocol'
import { onTestFinished } from 'vitest'

/** A task stream as the server sees it. */
export interface TaskTalk {
  /** Everything the agent said on it so far. */
  readonly lines: AgentTaskLine[]
  readonly isOver: boolean
  send(line: ServerTaskLine): void
  sendRaw(bytes: Uint8Array): void
}

/** The server's end of links that tests tell what to say. Real sockets, real frames. Ends with the test. */
export interface ScriptedServer {
  /** Dials a link for the agent; the newest is the one that assignments go over. */
  link(): Promise<Link>
  /** Cuts the newest link as a network does. */
  cut(): Promise<void>
  assign(change?: Partial<AssignLine>): TaskTalk
  /** Streams on which the agent said `attach`, in order. */
  readonly attached: TaskTalk[]
  readonly artifacts: { header: ArtifactHeader; bytes: Buffer }[]
  /** What the next artifact streams are answered, before `stored`; `lost` resets the stream. */
  readonly artifactAnswers: (Exclude<ArtifactAnswer, { type: 'stored' }> | { type: 'lost' })[]
  readonly inputs: Map<string, { answer: InputAnswer; bytes: Buffer }>
  readonly inputRequests: InputRequest[]
}

export const TASK_ID = '0195e2a0-0000-7000-8000-000000000001'

export const ASSIGN: AssignLine = {
  type: 'assign',
  task_id: TASK_ID,
  fence: 1,
  tool_type: 'demo',
  workflow_slug: 'demo',
  workflow_version: 1,
  workflow_json: { program: 'echo' },
  parameters: {},
  files: [],
  task_timeout_ms: 0,
  resume_window_ms: 60_000,
  required_models: [],
}

export async function scriptedServer(onAgentStream: (stream: LinkStream) => void): Promise<ScriptedServer> {
  const sockets: Socket[] = []
  const servers: Link[] = []
  const clients: Link[] = []
  let accepted = Promise.withResolvers<Link>()
  const attached: TaskTalk[] = []
  const artifacts: ScriptedServer['artifacts'] = []
  const artifactAnswers: ScriptedServer['artifactAnswers'] = []
  const inputs: ScriptedServer['inputs'] = new Map()
  const inputRequests: InputRequest[] = []

  function serve(stream: LinkStream): void {
    stream.accept()
    switch (stream.init.target.kind) {
      case 'task':
        attached.push(talk(stream))
        return
      case 'artifact':
        void ignoringResets(takeArtifact(new StreamChannel(stream)))
        return
      case 'input':
        void ignoringResets(giveInput(new StreamChannel(stream)))
        return
      default:
        stream.reset('unsupported')
    }
  }

  async function takeArtifact(channel: StreamChannel): Promise<void> {
    const header = parseArtifactHeader((await channel.readLine(FILE_LINE_BYTES)) ?? '')
    const answer = artifactAnswers.shift()
    if (answer?.type === 'lost') {
      channel.reset('internal')
      return
    }
    const pieces: Buffer[] = []
    for await (const piece of channel.read(header.size)) pieces.push(Buffer.from(piece))
    if (!answer) artifacts.push({ header, bytes: Buffer.concat(pieces) })
    await channel.write(encodeLine(answer ?? { type: 'stored', artifact_id: `artifact-${artifacts.length}` }))
    channel.end()
  }

  async function giveInput(channel: StreamChannel): Promise<void> {
    const request = parseInputRequest((await channel.readLine(FILE_LINE_BYTES)) ?? '')
    inputRequests.push(request)
    const input = inputs.get(request.file_key)
    await channel.write(
      encodeLine(input?.answer ?? { type: 'refused', code: 'not_found', message: 'there is no such file' }),
    )
    if (input) await channel.write(input.bytes)
    channel.end()
  }

  const http = createServer()
  http.on('upgrade', (request, socket, head) => {
    sockets.push(socket as Socket)
    acceptLink({
      request,
      socket: socket as Socket,
      head,
      challenge: 'Y2hhbGxlbmdl',
      welcome: () => Promise.resolve({ software: 'test/1', fields: {} }),
      onStream: (stream) => {
        serve(stream)
        return undefined
      },
    }).then(accepted.resolve, accepted.reject)
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  const { port } = http.address() as AddressInfo
  onTestFinished(async () => {
    for (const client of clients) client.close({ code: 'done', message: 'the test is over' })
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => http.close(resolve))
  })

  return {
    attached,
    artifacts,
    artifactAnswers,
    inputs,
    inputRequests,
    async link() {
      accepted = Promise.withResolvers<Link>()
      const client = await dialLink({
        url: new URL(`ws://127.0.0.1:${port}/agent`),
        headers: {},
        hello: () => ({ software: 'test/1', fields: {} }),
        onStream: (stream) => {
          onAgentStream(stream)
          return undefined
        },
      })
      clients.push(client)
      servers.push(await accepted.promise)
      return client
    },
    async cut() {
      servers.at(-1)?.close({ code: 'dead', message: 'the test cut it' })
      await Promise.all([clients.at(-1)?.closed, servers.at(-1)?.closed])
    },
    assign(change) {
      const link = servers.at(-1)
      if (!link) throw new Error('no link yet')
      const talking = talk(link.open({ target: { kind: 'task' }, priority: 'control' }))
      talking.send({ ...ASSIGN, ...change })
      return talking
    },
  }
}

function talk(stream: LinkStream): TaskTalk {
  const lines: AgentTaskLine[] = []
  let isOver = false
  stream.accepted.catch(() => {})
  stream.listen(
    lineEvents(
      {
        onLine(json) {
          const line = parseAgentTaskLine(json)
          if (!line) throw new Error(`the agent said ${json}`)
          lines.push(line)
        },
        onOverlong() {
          throw new Error('the agent said too much')
        },
        onOver() {
          isOver = true
        },
      },
      TASK_LIMITS.agentLineBytes,
    ),
  )
  return {
    lines,
    get isOver() {
      return isOver
    },
    send: (line) => void stream.write(encodeLine(line)),
    sendRaw: (bytes) => void stream.write(bytes),
  }
}

async function ignoringResets(work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!(error instanceof StreamResetError)) throw error
  }
}
