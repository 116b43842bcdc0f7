package wire

// Headers that ChainStore uses in addition to the standard ones.
const (
	HeaderKey            = "Chainstore-Key"      // a record's key
	HeaderIdempotencyKey = "Idempotency-Key"     // of a record or batch, within its project
	HeaderReplay         = "Idempotent-Replay"   // "true" on the answer to a retry
	HeaderFence          = "Chainstore-Fence"    // "<epoch>.<term>" of the leader that gives an order to a worker
	HeaderCaller         = "Chainstore-Caller"   // of a master that calls its leader or a worker: see [Caller]
	HeaderHops           = "Chainstore-Hops"     // how many masters a forwarded request has passed
	HeaderAuth           = "Chainstore-Auth"     // the proof of a node, and of its answer: see docs/adr/0027
	HeaderPosition       = "Chainstore-Position" // "<block>/<offset>/<index>" of a payload
	HeaderTime           = "Chainstore-Time"     // its time, unix milliseconds
	HeaderLeaf           = "Chainstore-Leaf"     // its leaf hash
	HeaderStream         = "Chainstore-Stream"   // the id of an append stream, on its answer
)

// Media types of the binary forms.
const (
	TypeProblem = "application/problem+json"          // RFC 9457
	TypeNDJSON  = "application/x-ndjson"              // a batch, one JSON object a line
	TypeFrames  = "application/vnd.chainstore.frames" // a batch, length-framed: see AppendFrame
	TypeEvents  = "text/event-stream"                 // a stream of records (HTML standard, server-sent events)
	TypeNote    = "text/plain; charset=utf-8"         // a signed note: see C2SP signed-note
	TypeOctets  = "application/octet-stream"          // the type of a record without one
)

// Routes between the nodes. Those of users are in package httpapi/masterapi and docs/api.md. All but PathSession take a
// proof of the cluster token, see docs/adr/0027; docs/api.md says who may call them.
const (
	PathSession         = "/internal/v1/session"      // POST: open a session, on all nodes; no token
	PathMember          = "/internal/v1/member"       // GET: the identity of a master
	PathAdopt           = "/internal/v1/adopt"        // POST: become part of a group
	PathSubmissions     = "/internal/v1/append"       // POST: a submission for the leader
	PathReadIndex       = "/internal/v1/read-index"   // GET: the leader's commit index
	PathLeaderStatus    = "/internal/v1/cluster"      // GET: the cluster as the leader sees it
	PathWorkers         = "/internal/v1/workers"      // POST: register a worker
	PathLeaderIntegrity = "/internal/v1/integrity"    // GET: the integrity as the leader sees it
	PathSuspects        = "/internal/v1/suspects"     // POST: a storage node answered wrong
	PathMasters         = "/internal/v1/masters"      // POST: announce a master
	PathFailedSyncs     = "/internal/v1/failed-syncs" // POST: a sync of a node's folder failed
	PathState           = "/internal/v1/state"        // GET: the hash of a master's state
	PathProfile         = "/internal/v1/profile"      // POST: a profile of a master's process
	PathTLS             = "/internal/v1/tls"          // GET: the step of TLS; POST: try TLS with other nodes

	// Of storage nodes, for a recovery of the masters, which does not know their master tokens.
	PathChain       = "/internal/v1/chain"        // GET: the height of the chain
	PathChainEpoch  = "/internal/v1/chain/epoch"  // POST: refuse leaders of epochs below one
	PathChainBlocks = "/internal/v1/chain/blocks" // GET ?from=&to=: blocks, each as length u32 ‖ block

	PathWorkerStatus  = "/worker/v1/status"       // GET; master token, as all below
	PathWorkerProfile = "/worker/v1/profile"      // POST: a profile of the worker's process
	PathWorkerTLS     = "/worker/v1/tls"          // POST: try TLS with other nodes
	PathBlocks        = "/worker/v1/blocks/"      // PUT {number}: store a block
	PathReadRecords   = "/worker/v1/records:read" // POST: records with their proofs
	PathHeaders       = "/worker/v1/headers"      // GET ?from=&limit=&size=: headers with the proofs of their seals
	PathLocate        = "/worker/v1/locate/"      // GET {index}: the block of a leaf
	PathReadTiles     = "/worker/v1/tiles:read"   // POST: tiles of the tree's hashes
	PathEntries       = "/worker/v1/entries"      // GET ?first=&count=: the data of leaves
	PathFindRecords   = "/worker/v1/records:find" // POST: places of records, by project and key, from the index
	PathFindHash      = "/worker/v1/hashes/"      // GET {hash}: leaves that may have a hash
	PathMine          = "/worker/v1/mine"         // POST: find a nonce
	PathInbox         = "/worker/v1/inbox/"       // PUT {number}: keep a block that is beyond the chain's end
	PathCheck         = "/worker/v1/check"        // POST: check the chain, or answer with the progress
	PathReceive       = "/worker/v1/receive"      // POST: open for a repair, or answer with the progress
	PathSend          = "/worker/v1/send"         // POST: send blocks to another node, or answer with the progress
	PathTransfer      = "/worker/v1/transfer"     // POST: blocks from another node; token: the repair's ticket
)
