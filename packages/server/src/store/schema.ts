/**
 * Every table, as rows come back from either engine. Ids are text, times are integer milliseconds since 1970 (UTC),
 * JSON is text. Secrets are hashes or sealed; nothing here opens a door by itself.
 */
export interface Tables {
  server_state: ServerStateTable
  user_account: UserAccountTable
  team: TeamTable
  membership: MembershipTable
  invitation: InvitationTable
  credential: CredentialTable
  pairing: PairingTable
  refresh_family: RefreshFamilyTable
  refresh_token: RefreshTokenTable
  signing_key: SigningKeyTable
  agent: AgentTable
  tunnel: TunnelTable
  audit_record: AuditRecordTable
}

/** Facts about this installation, one a row. */
export interface ServerStateTable {
  state_key: string
  state_value: string
}

export interface UserAccountTable {
  id: string
  /** Lower case; unique. */
  email_address: string
  first_name: string
  last_name: string
  display_name: string
  /** Argon2id in its PHC string form. */
  password_hash: string
  created_at: number
}

export interface TeamTable {
  id: string
  display_name: string
  created_at: number
}

/** A team has exactly one row with `owner`; a partial unique index holds that. */
export interface MembershipTable {
  team_id: string
  user_id: string
  role: string
  joined_at: number
}

/** Waiting invitations only: accepting or withdrawing one deletes its row. */
export interface InvitationTable {
  id: string
  team_id: string
  email_address: string
  invitation_role: string
  token_hash: string
  invited_by_user_id: string
  created_at: number
  expires_at: number
}

export interface CredentialTable {
  id: string
  team_id: string
  user_id: string
  /** `integration`, `device` or `agent`. */
  kind: string
  display_name: string
  key_prefix: string
  /** SHA-256 of the whole key, hex; unique. */
  key_hash: string
  /** On a device's row: the agent credential made with it, which ends with it. */
  companion_id: string | null
  created_at: number
  last_used_at: number | null
  expires_at: number | null
  revoked_at: number | null
}

/** One device waiting to be let in. The keys are made when the device fetches them, so they are never at rest. */
export interface PairingTable {
  device_code_hash: string
  /** Normalised: eight characters without the dash; unique. */
  user_code: string
  created_at: number
  expires_at: number
  approved_by_user_id: string | null
  approved_team_id: string | null
  device_name: string | null
}

/** One sign-in: every refresh token that descends from it, and the JWTs made with them. */
export interface RefreshFamilyTable {
  id: string
  user_id: string
  created_at: number
  expires_at: number
  ended_at: number | null
}

export interface RefreshTokenTable {
  /** SHA-256, hex. */
  token_hash: string
  family_id: string
  created_at: number
  used_at: number | null
}

export interface SigningKeyTable {
  kid: string
  public_jwk: string
  /** The private JWK, sealed with the server secret. */
  private_sealed: string
  created_at: number
  retired_at: number | null
}

/** The last known connection of each agent; `generation` grows with each new link and fences the older ones. */
export interface AgentTable {
  team_id: string
  agent_id: string
  machine_key: string
  generation: number
  gateway_id: string
  credential_id: string
  agent_version: string
  connected_at: number
  last_heartbeat_at: number
  tasks_completed: number
}

export interface TunnelTable {
  session_id: string
  team_id: string
  agent_id: string
  target_port: number
  /** `http` or `tcp`. */
  tunnel_protocol: string
  /** SHA-256, hex; unique. */
  token_hash: string
  /** The token sealed with the server secret: `tunnel_url` must be shown again. */
  token_sealed: string
  admin_token_hash: string
  opened_by_user_id: string
  opened_by_credential_id: string | null
  opened_by_family_id: string | null
  task_id: string | null
  opened_at: number
  last_activity_at: number
  idle_timeout_ms: number
  bytes_in: number
  bytes_out: number
  closed_at: number | null
}

/** Who did what to what. Outlives the team and the people it names. */
export interface AuditRecordTable {
  id: string
  team_id: string
  at: number
  actor: string
  action: string
  subject: string
  detail: string
}
