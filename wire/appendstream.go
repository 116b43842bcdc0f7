package wire

import (
	"fmt"
	"strings"
)

// MaxStreamID is the length of the longest id of an append stream.
const MaxStreamID = 64

// OwnStreamID is what the ids of append streams begin with that masters make. A client can continue such a stream. Only
// a master begins one.
const OwnStreamID = "_"

const streamIDCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_"

// CheckStreamID checks the id of an append stream: 1 to [MaxStreamID] letters, digits, dots, hyphens and underscores of
// ASCII. The error wraps [ErrBadRequest].
func CheckStreamID(id string) error {
	if id == "" || len(id) > MaxStreamID || strings.Trim(id, streamIDCharacters) != "" {
		return fmt.Errorf("%w: %q is not the id of an append stream: it has 1 to %d letters, digits, \".\", \"-\" and "+
			"\"_\"", ErrBadRequest, id, MaxStreamID)
	}
	return nil
}

// StreamKind says who has chosen the id of an append stream.
type StreamKind string

// The kinds of append streams.
const (
	StreamNamed   StreamKind = "named"   // a client
	StreamUnnamed StreamKind = "unnamed" // a master
)

// AppendStream says where an append stream continues.
type AppendStream struct {
	Stream string `json:"stream"` // its id
	Next   uint64 `json:"next"`   // the number that its next record gets
	Oldest uint64 `json:"oldest"` // records from this number on get their first positions when they are sent again
	Window uint64 `json:"window"` // how many records those are at most
}

// ListedStream is an append stream in a list.
type ListedStream struct {
	Stream    string     `json:"stream"` // its id
	Kind      StreamKind `json:"kind"`
	Last      uint64     `json:"last"`       // number of its newest record, 0 if it has none
	IdleSince uint64     `json:"idle_since"` // time of its last use, in unix milliseconds
}

// AppendStreams is a page of the append streams of a project, in the order of their ids.
type AppendStreams struct {
	Streams []ListedStream `json:"streams"`
	Next    string         `json:"next,omitempty"` // cursor of the next page, "" at the end
}

// StreamAnswer is a line of the answer to an append stream. Each line but the last is the position of a record. The
// last one has End, and Problem unless all records of the request were appended.
type StreamAnswer struct {
	Number uint64 `json:"number"` // of the record in the stream; on the last line, of the last record with a position
	*Position
	End     bool     `json:"end,omitempty"`
	Problem *Problem `json:"problem,omitempty"`
}
