import { createInterface } from 'node:readline'
import { AGENT, listenForLinks, openFilesWorld } from './files-world.ts'

/** The files part in a process of its own, until it is killed: says where it is, then a download URL for each artifact id it is given. */
const [directory = '.'] = process.argv.slice(2)
const world = await openFilesWorld({ directory })
const { url } = await listenForLinks(world.files, () => AGENT)
const attempt = await world.runningTask()
process.stdout.write(`${JSON.stringify({ url: url.href, attempt })}\n`)
for await (const artifactId of createInterface({ input: process.stdin })) {
  process.stdout.write(`${world.files.downloadUrl(artifactId).url}\n`)
}
