package wire

import (
	"fmt"
	"time"
)

// TypeWitnessSize is the media type of a witness's answer to a submission that does not start at its size (C2SP
// tlog-witness).
const TypeWitnessSize = "text/x.tlog.size"

// WitnessConflict is a witness's answer to a submission that does not start at its size: 409.
type WitnessConflict struct {
	Size uint64 // of the newest checkpoint of the log that the witness has cosigned, 0 where it has cosigned none
}

// Error is the size that the witness has.
func (e *WitnessConflict) Error() string {
	return fmt.Sprintf("the witness has cosigned the size %d of this log", e.Size)
}

// WitnessRefusal is an answer of a witness that is neither a cosignature nor a conflict.
type WitnessRefusal struct {
	Status     int
	Reason     string        // the start of its text, without control characters
	RetryAfter time.Duration // how long it asks to wait, 0 where it does not
}

// Error is the meaning of the status in the specification, and the witness's reason.
func (e *WitnessRefusal) Error() string {
	what := "the witness answered"
	switch e.Status {
	case 400:
		what = "the witness cannot read the submission"
	case 403:
		what = "the witness trusts none of the keys that sign the checkpoint: give it those of 'chainstore log key'"
	case 404:
		what = "the witness does not know the origin of this log: have its operator add it, " +
			"with the keys of 'chainstore log key'"
	case 422:
		what = "the witness has seen another history of this log: what it cosigned is not consistent " +
			"with what is stored here"
	}
	if e.Reason == "" {
		return fmt.Sprintf("%s (status %d)", what, e.Status)
	}
	return fmt.Sprintf("%s (status %d: %s)", what, e.Status, e.Reason)
}

// WitnessState is the state of a witness, as the leader sees it.
type WitnessState string

// The states of a witness.
const (
	WitnessNew     WitnessState = "new"     // this leader has not heard from it yet
	WitnessOK      WitnessState = "ok"      // it cosigned the last submission
	WitnessDown    WitnessState = "down"    // it does not answer, or is unavailable
	WitnessRefused WitnessState = "refused" // it answers without a valid cosignature
	WitnessBehind  WitnessState = "behind"  // it has cosigned a larger tree than is stored here
)

// Witness is a witness of the log, as the leader sees it.
type Witness struct {
	Name        string       `json:"name"`
	VerifierKey string       `json:"vkey"` // C2SP signed-note, of type 0x04 or 0x06
	URL         string       `json:"url"`  // its submission prefix
	Size        uint64       `json:"size"` // leaves of the newest checkpoint that it has cosigned, 0 if unknown
	Last        uint64       `json:"last"` // when it last cosigned, unix milliseconds; 0 if unknown
	State       WitnessState `json:"state"`
	Error       string       `json:"error,omitempty"`
	Failures    uint64       `json:"failures"` // submissions that failed since this leader began
}
