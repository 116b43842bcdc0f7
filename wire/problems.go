package wire

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ProblemType is one kind of failure: a row of the table below, and the sentinel error of that row. Programs compare
// with [errors.Is]. The server, the client, docs/api.md and openapi.yaml take names, statuses and titles from the
// table.
type ProblemType struct {
	Name   string // the last part of the type's URL, after ProblemBase; stable
	Status int    // of HTTP
	Title  string
	Retry  bool // the same request may succeed soon: the answer has a Retry-After header
	also   error
}

// Error is the title, as an error's text starts: in lower case.
func (t *ProblemType) Error() string { return strings.ToLower(t.Title[:1]) + t.Title[1:] }

// Unwrap is the more general error that this one is too, nil for most.
func (t *ProblemType) Unwrap() error { return t.also }

// Variant is an error that is answered like t and has its own text.
func (t *ProblemType) Variant(text string) error { return &variant{text, t} }

type variant struct {
	text string
	t    *ProblemType
}

func (v *variant) Error() string { return v.text }
func (v *variant) Unwrap() error { return v.t }

// Whether the same request may succeed soon.
const (
	final = false
	retry = true
)

// problems is the table, in the order of the lines below.
var problems []*ProblemType

func problem(name string, status int, retry bool, title string) *ProblemType {
	t := &ProblemType{Name: name, Status: status, Title: title, Retry: retry}
	problems = append(problems, t)
	return t
}

// special is a row that [errors.Is] also finds as a more general one.
func special(also error, t *ProblemType) *ProblemType {
	t.also = also
	return t
}

// The table of problems. Each line defines the name, the HTTP status, whether a retry may succeed soon, and the title.
var (
	// ErrBadRequest: a field, header or body cannot be used: not a number, not JSON, over its limit.
	ErrBadRequest = problem("bad-request", 400, final, "Bad request")
	// ErrEmptyBody: an append without a payload.
	ErrEmptyBody = special(ErrBadRequest, problem("empty-body", 400, final, "Record without a payload"))
	// ErrUnauthorized: no token, or one that the cluster does not know.
	ErrUnauthorized = problem("unauthorized", 401, final, "Token missing or unknown")
	// ErrForbidden: the token does not permit this request.
	ErrForbidden = problem("forbidden", 403, final, "Token does not permit this")
	// ErrTicketNeeded: a new master joins with a join ticket from protocol level 7 on. Only masters see it.
	ErrTicketNeeded = problem("ticket-needed", 403, final, "Join ticket needed")
	// ErrTicketRefused: the join ticket is unknown, was revoked or used, or has expired. Only masters see it.
	ErrTicketRefused = problem("ticket-refused", 403, final, "Join ticket refused")
	// ErrTLSRequired: the request came in plain text, and the group requires TLS.
	ErrTLSRequired = problem("tls-required", 403, final, "TLS required")
	// ErrProjectClosed: nothing is appended to the project any more. Nothing was appended.
	ErrProjectClosed = problem("project-closed", 403, final, "Project closed")
	// ErrNotFound: no such record, block, tile, project, token id, key, master or worker.
	ErrNotFound = problem("not-found", 404, final, "Not found")
	// ErrNoSuchRoute: the server has no route of that path. It may be of an older version, or not ChainStore.
	ErrNoSuchRoute = problem("no-such-route", 404, final, "No such route")
	// ErrSealIndex: the leaf of that index is a block's seal, not a record.
	ErrSealIndex = special(ErrNotFound, problem("seal-index", 404, final, "Leaf is a block's seal, not a record"))
	// ErrUnknownStream: the project has no append stream of that id, or it was forgotten, and the request does not
	// begin one.
	ErrUnknownStream = problem("unknown-stream", 404, final, "Unknown append stream")
	// ErrMethod: the route does not take that method.
	ErrMethod = problem("method-not-allowed", 405, final, "Method not allowed")
	// ErrSlowBody: the body did not arrive in the time that it had. Nothing was changed.
	ErrSlowBody = problem("slow-body", 408, final, "Body arrives too slowly")
	// ErrUnreadAnswers: the client of an append stream does not read the answers. It continues with the next number.
	ErrUnreadAnswers = problem("unread-answers", 408, final, "Answers are not read")
	// ErrNameTaken: a project or admin token of that name exists.
	ErrNameTaken = problem("name-taken", 409, final, "Name taken")
	// ErrTooMany: the table takes no more projects, tokens of the project, admin tokens, join tickets, or keys of the
	// log.
	ErrTooMany = problem("too-many", 409, final, "Limit of projects, tokens or keys reached")
	// ErrProfiling: the process is taking a profile. It takes one at a time.
	ErrProfiling = problem("profiling", 409, retry, "Another profile is being taken")
	// ErrNotMined: the block is committed and waits for its proof of work.
	ErrNotMined = problem("not-mined", 409, retry, "Block not mined yet")
	// ErrNotSealed: the record's block has no proof of work yet, so nothing proves the record.
	ErrNotSealed = problem("not-sealed", 409, retry, "Record not sealed yet")
	// ErrStreamGap: the records do not follow the newest one of their append stream.
	ErrStreamGap = problem("stream-gap", 409, final, "Append stream continues elsewhere")
	// ErrStreamPassed: the records were appended, and their positions are no longer remembered.
	ErrStreamPassed = problem("stream-passed", 409, final, "Positions no longer remembered")
	// ErrNotCovered: no signed checkpoint covers the record's block yet.
	ErrNotCovered = problem("not-covered", 409, retry, "No signed checkpoint covers the record yet")
	// ErrLastKey: without that key nothing would sign the checkpoints.
	ErrLastKey = problem("last-key", 409, final, "Only log key that signs")
	// ErrTooFewCopies: without that storage node fewer good copies would remain than `replicas` asks for.
	ErrTooFewCopies = problem("too-few-copies", 409, final, "Too few good copies would remain")
	// ErrTooFewMasters: the masters that would remain could not elect a leader.
	ErrTooFewMasters = problem("too-few-masters", 409, final, "Too few masters would remain")
	// ErrNotVoter: that master cannot lead: it is still catching up, or does not answer.
	ErrNotVoter = problem("not-voter", 409, final, "Master cannot take the leadership")
	// ErrNotLost: the block is not reported as lost.
	ErrNotLost = problem("not-lost", 409, final, "Block not reported as lost")
	// ErrForgotten: the table does not remember the submission of an append, or remembers another of its name. An
	// earlier try may have been committed. Only masters see it; a user gets ErrUnknownOutcome.
	ErrForgotten = problem("forgotten", 409, final, "Submission not remembered")
	// ErrOtherGroup: the node belongs to another group.
	ErrOtherGroup = problem("other-group", 409, final, "Node of another group")
	// ErrOtherKey: the table has another key of the master, or of the master at its address. See [OtherKeyError]. Only
	// masters see it.
	ErrOtherKey = problem("other-key", 409, final, "Another key is recorded")
	// ErrOtherStart: another start of the worker has registered, which its data folder does not know: the folder was
	// copied, or an older copy of it was put back. See [OtherStartError].
	ErrOtherStart = problem("other-start", 409, final, "Another start of the worker has registered")
	// ErrFailedSync: the masters know that a sync of the worker's data folder failed since its machine was started.
	ErrFailedSync = problem("failed-sync", 409, final, "A sync of the data folder failed")
	// ErrNotOnTLS: nodes of the group do not speak TLS yet, or are not known to.
	ErrNotOnTLS = problem("not-on-tls", 409, final, "Not all nodes speak TLS")
	// ErrFenced: an order of a deposed leader, or one that a newer order replaced. See [FencedError].
	ErrFenced = problem("fenced", 409, final, "Order superseded")
	// ErrNotNext: a block that does not follow the storage node's last. See [NotNextError].
	ErrNotNext = problem("not-next", 409, final, "Block does not follow the node's last")
	// ErrInboxFull: the storage node's inbox takes no more blocks until the node is repaired.
	ErrInboxFull = problem("inbox-full", 409, final, "Inbox full until the node is repaired")
	// ErrLost: no storage node has a good copy of the block, and a person has confirmed the loss.
	ErrLost = problem("lost", 410, final, "Block lost")
	// ErrRemoved: the worker or master was removed from the cluster. It does not come back under its id.
	ErrRemoved = problem("removed", 410, final, "Removed from the cluster")
	// ErrTooLarge: a body, record or batch over its limit, or over what the project's quota takes in one piece.
	ErrTooLarge = problem("too-large", 413, final, "Too large")
	// ErrEncoding: the body has a content coding other than identity. A proxy may have compressed it.
	ErrEncoding = problem("content-encoding", 415, final, "Content coding not supported")
	// ErrRange: the Range header asks for bytes of a payload that do not exist.
	ErrRange = problem("range-not-satisfiable", 416, final, "Range not satisfiable")
	// ErrKeyReused: the idempotency key was used for another body.
	ErrKeyReused = problem("key-reused", 422, final, "Idempotency key reused for another body")
	// ErrStreamContent: another record was appended under the same number of the append stream.
	ErrStreamContent = problem("stream-content", 422, final, "Stream number reused for another record")
	// ErrBadBlock: the block fails verification.
	ErrBadBlock = problem("bad-block", 422, final, "Block fails verification")
	// ErrQuota: the project has spent what its quota gives in a second.
	ErrQuota = problem("quota", 429, retry, "Quota spent")
	// ErrTooManyRequests: an address has sent too many requests of a kind that are limited per address.
	ErrTooManyRequests = problem("too-many-requests", 429, retry, "Too many requests from this address")
	// ErrInternal: a fault of the server. The log of the node has the cause.
	ErrInternal = problem("internal", 500, final, "Internal error")
	// ErrNoStreams: the group's protocol level has no append streams, because a master runs an older program.
	ErrNoStreams = problem("no-streams", 501, final, "No append streams yet")
	// ErrBacklog: the masters hold max_pending_bytes, so appends are refused until blocks are stored.
	ErrBacklog = problem("backlog-full", 503, retry, "Backlog full")
	// ErrNoSpace: the disk of the node is full, or nearly: see --min-free. Nothing was changed. It takes data again
	// once there is room.
	ErrNoSpace = problem("no-space", 503, retry, "Disk full")
	// ErrNoLeader: no leader could be reached within the time that the request may wait. Nothing was changed.
	ErrNoLeader = problem("no-leader", 503, retry, "No leader")
	// ErrUnknownOutcome: the change may have been committed, or may be yet. An append may be retried with the same
	// idempotency key.
	ErrUnknownOutcome = problem("unknown-outcome", 503, retry, "Outcome unknown")
	// ErrTooManyStreams: the master serves as many streams as it can; another may serve this one.
	ErrTooManyStreams = problem("too-many-streams", 503, retry, "Too many streams")
	// ErrStaleFolder: the node's data folder is an older copy of itself, so it serves nothing; another node may.
	ErrStaleFolder = problem("stale-folder", 503, final, "Data folder is an older copy")
	// ErrUnavailable: the node cannot serve the request now: no storage node could prove the record, or no checkpoint
	// can be shown.
	ErrUnavailable = problem("unavailable", 503, retry, "Unavailable")
)

// Errors of calls between nodes that are not rows of their own.
var (
	// ErrNotLeader: the master that was asked does not lead, and did nothing. It is answered as [ErrNoLeader].
	ErrNotLeader = ErrNoLeader.Variant("not the leader")
	// ErrNoAnswer: the other node gave no answer. Whether it did anything is not known.
	ErrNoAnswer = errors.New("no answer")
)

// ProblemTypes lists the table.
func ProblemTypes() []*ProblemType { return problems }

// ProblemNamed is the row of a name, nil for a name that this version does not know.
func ProblemNamed(name string) *ProblemType {
	for _, t := range problems {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// ProblemOf finds the row that err is answered with, nil where there is none. The outermost one decides, and of
// several at one level the first: what wraps an error knows better what it means. An answer of another node, an
// [*Error], is that node's problem and not found here.
func ProblemOf(err error) *ProblemType {
	switch e := err.(type) { //nolint:errorlint // this walks the tree of errors itself
	case *ProblemType:
		return e
	case interface{ Unwrap() error }:
		return ProblemOf(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, wrapped := range e.Unwrap() {
			if t := ProblemOf(wrapped); t != nil {
				return t
			}
		}
	}
	return nil
}

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

// Fenced is the answer to [ErrFenced] of an order: it names the newest order that the worker has accepted. Older
// workers leave both out, and so does a miner that mines another header meanwhile.
type Fenced struct {
	Problem
	Epoch *uint64 `json:"epoch,omitempty"`
	Term  uint64  `json:"term,omitempty"`
}

// FencedError is a worker's refusal of an order, with the newest order that the worker has accepted.
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

// RemovedError is [ErrRemoved] as the answer to the announcement of a master, signed by the master that answers: see
// package joining.
type RemovedError struct {
	Master    string // the id of the master that answers
	Epoch     uint64 // of its group
	Signature string // with its key
	Err       error
}

// Error is the text of the refusal.
func (e *RemovedError) Error() string { return e.Err.Error() }

// Unwrap is the refusal.
func (e *RemovedError) Unwrap() error { return e.Err }

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
