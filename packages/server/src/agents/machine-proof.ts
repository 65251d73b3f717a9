import { createPublicKey, verify } from 'node:crypto'
import { type AgentHello, machineProofText } from '@cyberun/protocol'

/** Whether whoever sent `hello` holds the private key of the machine it names: it signed the challenge of this very link. */
export function machineProven(hello: AgentHello, challenge: string): boolean {
  const { public_key: x, signature } = hello.machine
  try {
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })
    const text = Buffer.from(machineProofText(challenge, hello.agent_id))
    return verify(null, text, key, Buffer.from(signature, 'base64url'))
  } catch {
    // 32 bytes that are no point of the curve.
    return false
  }
}
