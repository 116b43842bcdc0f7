package wire

// Log is the identity under which a cluster signs its checkpoints.
type Log struct {
	Origin string   `json:"origin"` // name of the log and of its keys, "" until the first key is there
	Keys   []LogKey `json:"keys"`   // the oldest first, retired ones included
	// Size is that of the published checkpoint's tree; nil where the log is private and the request has no token.
	Size    *uint64 `json:"size,omitempty"`
	Private bool    `json:"private"` // checkpoints, tiles and consistency proofs need a token
	// Witnesses are those that the leader asks for cosignatures, absent where Size is. Quorum of them must have
	// cosigned a checkpoint before it is published.
	Witnesses []Witness `json:"witnesses,omitempty"`
	Quorum    int       `json:"quorum"`
}

// LogKey is a key of the log: its public part.
type LogKey struct {
	ID          string `json:"id"`                // 8 hex digits, as in the signatures' key id
	VerifierKey string `json:"vkey"`              // C2SP signed-note
	Since       uint64 `json:"since"`             // unix milliseconds
	Retired     uint64 `json:"retired,omitempty"` // when it stopped signing, 0 while it signs
}

// Checkpoints are the sizes of the stored tree and of the published one.
type Checkpoints struct {
	Height        uint64 `json:"height"`         // blocks of which `replicas` storage nodes have every one
	Size          uint64 `json:"size"`           // leaves of the tree up to there
	PublishedSize uint64 `json:"published_size"` // leaves of the published tree
}
