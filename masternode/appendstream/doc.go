// Package appendstream moves the records of one request of an append stream to the status table, and their positions
// back, in order. It is the part of a stream that does not depend on HTTP or on the table: what a part of the stream
// is, when it is sent, and when it is sent again.
//
// Three goroutines work on a request. The reader reads records as long as there is room. The caller's goroutine makes
// parts of them and starts each while earlier ones are under way. The writer writes answers in the order of the
// numbers, each after its record was committed.
//
//	body ─► reader ─► queue ─► parts under way ─► writer ─► answers
//	          ▲                                     │
//	          └──────────────── room ◄──────────────┘
//
// A record takes room from the time when it is read until its answer is written. So records, parts and answers together
// are bounded, and a client that does not read its answers stops the reader.
package appendstream
