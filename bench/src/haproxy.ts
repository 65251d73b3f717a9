import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Contender } from './contender.ts'
import { freePort, portOpen, startProgram } from './programs.ts'

/**
 * Two chained HAProxies as installed: the same number of hops as a tunnel. One port each for bytes (mode tcp) and one
 * for requests (mode http, which keeps its connections to the next hop alive).
 */
export async function haproxyChain(program: string, directory: string, servicePort: number): Promise<Contender> {
  const far = await proxy(program, join(directory, 'far.cfg'), { bytes: servicePort, requests: servicePort })
  const near = await proxy(program, join(directory, 'near.cfg'), far.ports)
  return {
    name: 'haproxy',
    route: { kind: 'tcp', port: near.ports.bytes },
    url: `http://127.0.0.1:${near.ports.requests}/small`,
    near: [near.running.pid],
    far: [far.running.pid],
    async [Symbol.asyncDispose]() {
      await near.running[Symbol.asyncDispose]()
      await far.running[Symbol.asyncDispose]()
    },
  }
}

interface Ports {
  bytes: number
  requests: number
}

async function proxy(program: string, configFile: string, targets: Ports) {
  const ports: Ports = { bytes: await freePort(), requests: await freePort() }
  writeFileSync(configFile, config(ports, targets))
  const running = startProgram(program, ['-db', '-f', configFile])
  await portOpen(ports.bytes, running.said)
  await portOpen(ports.requests, running.said)
  return { running, ports }
}

const config = (ports: Ports, targets: Ports) => `
global
  maxconn 4000
  nbthread 1
defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen bytes
  mode tcp
  bind 127.0.0.1:${ports.bytes}
  server next 127.0.0.1:${targets.bytes}
listen requests
  mode http
  option http-keep-alive
  http-reuse always
  bind 127.0.0.1:${ports.requests}
  server next 127.0.0.1:${targets.requests}
`
