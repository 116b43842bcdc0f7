package wire

import (
	"fmt"
	"strings"
	"time"
)

// ProblemBase stands before the name of each problem type.
const ProblemBase = "https://chainstore.dev/problems/"

// Problem is an error on the wire, RFC 9457. Type is [ProblemBase] and the name of a [ProblemType].
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// Problem is the answer to an error of type t. The detail is the error's text, without the title where more follows it.
func (t *ProblemType) Problem(err error) Problem {
	p := Problem{Type: ProblemBase + t.Name, Title: t.Title, Status: t.Status, Detail: err.Error()}
	if detail := withoutTitle(p.Detail, t.Title); detail != "" {
		p.Detail = detail
	}
	return p
}

// withoutTitle cuts the title from the start of a text, since both are shown together.
func withoutTitle(text, title string) string {
	if len(text) < len(title) || !strings.EqualFold(text[:len(title)], title) {
		return text
	}
	switch rest := text[len(title):]; {
	case rest == "":
		return ""
	case strings.HasPrefix(rest, ": "):
		return rest[2:]
	}
	return text
}

// Error is a problem that another node answered with. [errors.Is] finds the sentinel of its type.
type Error struct {
	URL        string // of the node
	Problem    Problem
	RetryAfter time.Duration // how long the node asks to wait, 0 where it does not
}

// Error says which node answered what. The name of the type is left out where the title says the same.
func (e *Error) Error() string {
	text := e.Problem.Title
	if detail := withoutTitle(e.Problem.Detail, text); detail != "" {
		text += ": " + detail
	}
	name := e.Name()
	if name == "" || strings.EqualFold(strings.ReplaceAll(name, "-", " "), e.Problem.Title) {
		return fmt.Sprintf("%s: %s (HTTP %d)", e.URL, text, e.Problem.Status)
	}
	return fmt.Sprintf("%s: %s (%s, HTTP %d)", e.URL, text, name, e.Problem.Status)
}

// Name is the name of the problem's type, "" for an answer that is not ChainStore's.
func (e *Error) Name() string {
	name, ok := strings.CutPrefix(e.Problem.Type, ProblemBase)
	if !ok {
		return ""
	}
	return name
}

// Type is the row of the problem's type, nil for a type that this version does not know.
func (e *Error) Type() *ProblemType { return ProblemNamed(e.Name()) }

// Is finds the sentinel of the problem's type, and what that wraps.
func (e *Error) Is(target error) bool {
	for t := e.Type(); t != nil; t, _ = t.also.(*ProblemType) {
		if t == target || t == ErrNoLeader && target == ErrNotLeader {
			return true
		}
	}
	return false
}

// Fenced is the answer to [ErrFenced] of an order: it names the newest order that the worker has let in. Older workers
// leave both out, and so does a miner that mines another header meanwhile.
type Fenced struct {
	Problem
	Epoch *uint64 `json:"epoch,omitempty"`
	Term  uint64  `json:"term,omitempty"`
}

// FencedError is a worker's refusal of an order, with the newest order that the worker has let in.
type FencedError struct {
	Highest Order
	Err     error
}

// Error is the text of the refusal.
func (e *FencedError) Error() string { return e.Err.Error() }

// Unwrap is the refusal.
func (e *FencedError) Unwrap() error { return e.Err }

// NotNextError is [ErrNotNext] with what the storage node has.
type NotNextError struct {
	Status StorageStatus
	Err    error
}

// Error is the text of the refusal.
func (e *NotNextError) Error() string { return e.Err.Error() }

// Unwrap is the refusal.
func (e *NotNextError) Unwrap() error { return e.Err }

// OtherStartError is [ErrOtherStart] with the start that the masters have of the worker.
type OtherStartError struct {
	Start string
	Err   error
}

// Error is the text of the refusal.
func (e *OtherStartError) Error() string { return e.Err.Error() }

// Unwrap is the refusal.
func (e *OtherStartError) Unwrap() error { return e.Err }

// QuotaError is [ErrQuota] with what the project has left. The server sends it as RateLimit-* headers.
type QuotaError struct {
	Bytes bool   // the limit of bytes was hit, not that of records
	Limit uint64 // a second
	Left  uint64 // of it now
	Wait  uint64 // milliseconds until there is enough for the request, at least 1
}

// Error says which part of the quota is spent, and when to retry.
func (e *QuotaError) Error() string {
	unit := "records"
	if e.Bytes {
		unit = "bytes"
	}
	return fmt.Sprintf("%v: %d %s a second, %d are left now; nothing was appended, try again in %d ms",
		ErrQuota, e.Limit, unit, e.Left, e.Wait)
}

// Unwrap is [ErrQuota].
func (e *QuotaError) Unwrap() error { return ErrQuota }
