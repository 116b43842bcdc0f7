package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
)

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
	// Closed are the logs that this one continues, the oldest first; absent where Size is.
	Closed []ClosedLog `json:"closed,omitempty"`
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

// CloseLog asks for the end of the log under its name and keys, and its continuation under another name with a new key.
type CloseLog struct {
	Origin string `json:"origin"` // of the log that continues (C2SP tlog-checkpoint)
	Reason string `json:"reason"` // one line, for verifiers: see CheckClosingReason
	// Trusted is the last checkpoint of the closed log whose signatures are to be trusted, a signed note; "" for the
	// newest that is published.
	Trusted string `json:"trusted,omitempty"`
}

// ClosedLog is a former name of the log. Signatures of its keys say nothing about a tree of more leaves than Size.
type ClosedLog struct {
	Origin       string     `json:"origin"`
	VerifierKeys []string   `json:"vkeys"`  // all that it had
	Size         uint64     `json:"size"`   // leaves of its last trusted tree; 0 if this log does not continue it
	Root         chain.Hash `json:"root"`   // of that tree
	Reason       string     `json:"reason"` // one line
	Closed       uint64     `json:"closed"` // unix milliseconds
	// Statement is a note that says so, signed by the keys of the log that continues: see [Closing]. It is "" while the
	// master cannot sign, and if Size is 0.
	Statement string `json:"statement,omitempty"`
}

// Closing is the statement that a log is closed, and continues under another name. Its text has five lines:
//
//	chainstore-log-closing/v1
//	the origin of the closed log
//	the leaves of its last trusted tree, decimal
//	the root of that tree, base64 (RFC 4648 section 4)
//	the reason
//
// It is signed as a note (C2SP signed-note) by the keys of the log that continues, so their names are its origin. Both
// logs have one tree: a verifier that trusts the new key, and finds the root in the new log, may take the tree of the
// closed one as a part of the new one.
type Closing struct {
	Origin string
	Size   uint64
	Root   chain.Hash
	Reason string
}

const closingHeader = "chainstore-log-closing/v1"

// MaxClosingReason is the limit of the reason of a [Closing], in bytes.
const MaxClosingReason = 200

// CheckClosingReason reports what is wrong with the reason of a [Closing]: it is a line of UTF-8 without control
// characters. The rule is frozen, since the state machine applies it: it does not use the Unicode tables of the Go
// release.
func CheckClosingReason(reason string) error {
	breaks := func(r rune) bool {
		return r < ' ' || 0x7f <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 // C0, C1, line and paragraph separator
	}
	if strings.Trim(reason, " ") == "" || len(reason) > MaxClosingReason || !utf8.ValidString(reason) ||
		strings.ContainsFunc(reason, breaks) {
		return fmt.Errorf("the reason is one line of 1 to %d bytes of UTF-8, without control characters",
			MaxClosingReason)
	}
	return nil
}

// Text returns the text of the note.
func (c *Closing) Text() string {
	return fmt.Sprintf("%s\n%s\n%d\n%s\n%s\n", closingHeader, c.Origin, c.Size,
		base64.StdEncoding.EncodeToString(c.Root[:]), c.Reason)
}

// ParseClosing reads the text of a note. Each statement has one text.
func ParseClosing(text string) (c Closing, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 6 || lines[0] != closingHeader || lines[5] != "" {
		return Closing{}, fmt.Errorf("not the statement that a log is closed: that has five lines, the first %q",
			closingHeader)
	}
	c.Origin, c.Reason = lines[1], lines[4]
	c.Size, err = strconv.ParseUint(lines[2], 10, 64)
	root, rootErr := base64.StdEncoding.Strict().DecodeString(lines[3])
	if len(root) == chain.HashSize {
		c.Root = chain.Hash(root)
	}
	if err = errors.Join(err, rootErr, CheckClosingReason(c.Reason)); err == nil && c.Text() != text {
		err = errors.New("it is not written in the one form that it has")
	}
	if err != nil {
		return Closing{}, fmt.Errorf("the statement that a log is closed is damaged: %w", err)
	}
	return c, nil
}
